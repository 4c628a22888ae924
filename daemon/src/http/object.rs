//! A request's JSON object, taken apart once: each member's value stays as it was written until its field is read.
//! Nothing here recurses, so no depth of nesting can exhaust the stack.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor,
};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::problem::{Code, Problem};

/// How much of an unknown name is told back.
const SHOWN_NAME_BYTES: usize = 100;

/// The values of the members `names` of the JSON object `body`, in the order of `names`.
///
/// # Errors
/// `invalid_json` if it is none, or if a member comes twice; `unknown_field` if it has another member.
pub(crate) fn members<'a, const N: usize>(
    body: &'a [u8],
    names: &[&'static str; N],
) -> Result<[Option<&'a RawValue>; N], Problem> {
    if let Some(mark) = byte_order_mark(body) {
        return Err(Problem::new(
            Code::InvalidJson,
            format!("The JSON starts with a byte order mark ({mark}). Send UTF-8 without one."),
        ));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(
            Code::InvalidJson,
            format!("The JSON is not valid UTF-8 (at byte {at})."),
        )
    })?;
    let mut flaw = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let object = Object {
        names,
        flaw: &mut flaw,
    };
    let found = json
        .deserialize_map(object)
        .and_then(|found| json.end().map(|()| found))
        .map_err(|error| not_json(&error))?;
    match flaw {
        None => Ok(found),
        Some(Flaw::Twice(name)) => Err(Problem::new(
            Code::InvalidJson,
            format!("The object has {name:?} twice. Send it once."),
        )),
        Some(Flaw::Unknown(name)) => Err(Problem::unknown(name, names)),
    }
}

/// The byte order mark that a text begins with, in words (RFC 8259, section 8.1: JSON has none).
fn byte_order_mark(body: &[u8]) -> Option<&'static str> {
    const MARKS: [(&[u8], &str); 3] = [
        (b"\xef\xbb\xbf", "EF BB BF, of UTF-8"),
        (b"\xff\xfe", "FF FE, of UTF-16"),
        (b"\xfe\xff", "FE FF, of UTF-16"),
    ];
    let found = MARKS.iter().find(|(mark, _)| body.starts_with(mark));
    found.map(|(_, words)| *words)
}

fn not_json(error: &serde_json::Error) -> Problem {
    let detail = match error.classify() {
        Category::Data => "Expected a JSON object, {…}.".to_owned(),
        _ => format!("Invalid JSON: {error}. Send one JSON object."),
    };
    Problem::new(Code::InvalidJson, detail)
}

enum Flaw {
    Unknown(String),
    Twice(&'static str),
}

struct Object<'n, const N: usize> {
    names: &'n [&'static str; N],
    flaw: &'n mut Option<Flaw>,
}

impl<'de, const N: usize> Visitor<'de> for Object<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(name) = map.next_key_seed(Name(self.names))? {
            // A flaw is kept until the end: text that is no JSON at all goes first.
            let place = match name {
                Ok(index) => found.get_mut(index).zip(self.names.get(index)),
                Err(unknown) => {
                    self.flaw.get_or_insert(Flaw::Unknown(unknown));
                    None
                }
            };
            let Some((place, name)) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if place.replace(map.next_value::<&'de RawValue>()?).is_some() {
                *self.flaw = Some(Flaw::Twice(name));
            }
        }
        Ok(found)
    }
}

/// A member's name, read as its place among the known ones.
struct Name<'n, const N: usize>(&'n [&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Name<'_, N> {
    type Value = Result<usize, String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<const N: usize> Visitor<'_> for Name<'_, N> {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let known = self.0.iter().position(|known| *known == name);
        Ok(known.ok_or_else(|| {
            let end = name.floor_char_boundary(SHOWN_NAME_BYTES);
            name.get(..end).unwrap_or_default().to_owned()
        }))
    }
}

/// A required member.
pub(crate) fn required<'a>(
    value: Option<&'a RawValue>,
    field: &'static str,
) -> Result<&'a RawValue, Problem> {
    value.ok_or_else(|| Problem::field(field, format!("{field} is required.")))
}

/// A member's value as text.
pub(crate) fn text<'a>(value: &'a RawValue, field: &'static str) -> Result<Cow<'a, str>, Problem> {
    let json = value.get();
    let plain = json
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match plain {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        _ => typed::<String>(value, field, "a string").map(Cow::Owned),
    }
}

/// A member's value as a `T`; `expected` says what that is.
pub(crate) fn typed<T: DeserializeOwned>(
    value: &RawValue,
    field: &'static str,
    expected: &str,
) -> Result<T, Problem> {
    serde_json::from_str(value.get()).map_err(|_| {
        let came = kind(value);
        Problem::field(field, format!("{field} must be {expected}, not {came}."))
    })
}

/// Whether the value is `null`.
pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "this string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Whether lists and objects in valid JSON are nested deeper than `most`.
pub(crate) fn nested_deeper_than(json: &str, most: usize) -> bool {
    // Every level takes a byte to open. This count is a few times faster than the walk, and nearly always enough.
    if opened(json.as_bytes()) <= most {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// How many bytes open a list or an object, were it in a text. Counted in bytes by pieces, many at a time.
fn opened(json: &[u8]) -> usize {
    json.chunks(usize::from(u8::MAX))
        .map(|piece| {
            let opens = |b: &u8| u8::from(matches!(b, b'[' | b'{'));
            usize::from(piece.iter().map(opens).sum::<u8>())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_as_they_were_written() {
        let [a, b] = members(br#" { "b" : [ 1.0 ,2] , "a":"x" } "#, &["a", "b"]).unwrap();
        assert_eq!(a.unwrap().get(), "\"x\"");
        assert_eq!(b.unwrap().get(), "[ 1.0 ,2]");
    }

    #[test]
    fn text_that_is_no_json_goes_before_any_other_flaw() {
        for bad in [
            r#"{"x":1,"a":}"#,
            r#"{"a":1,"a":2"#,
            "{}{}",
            "[",
            "\u{feff}{}",
        ] {
            let problem = members(bad.as_bytes(), &["a"]).unwrap_err();
            assert_eq!(problem.code, Code::InvalidJson, "{bad}");
            assert_eq!(problem.field, None);
        }
    }

    #[test]
    fn a_byte_order_mark_is_named() {
        for bytes in [&b"\xef\xbb\xbf{}"[..], b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}"] {
            let problem = members(bytes, &["a"]).unwrap_err();
            assert_eq!(problem.code, Code::InvalidJson);
            assert!(
                problem.detail.contains("byte order mark"),
                "{}",
                problem.detail
            );
        }
    }

    #[test]
    fn nesting_is_counted_outside_of_strings_only() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!nested_deeper_than(&nested(128), 128));
        assert!(nested_deeper_than(&nested(129), 128));
        assert!(nested_deeper_than(&nested(100_000), 128));
        let text = format!(r#"["\"{}",{}]"#, "[".repeat(500), "[],".repeat(200) + "1");
        assert!(!nested_deeper_than(&text, 2));
    }

    #[test]
    fn text_is_unescaped_only_where_it_must_be() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let plain = raw(r#""abc""#);
        assert!(matches!(text(&plain, "f"), Ok(Cow::Borrowed("abc"))));
        assert_eq!(text(&raw(r#""a\u0062\"""#), "f").unwrap(), "ab\"");
        for bad in ["1", "null", r#""\ud800""#, "[\"a\"]", "{}"] {
            let problem = text(&raw(bad), "f").unwrap_err();
            assert_eq!(problem.code, Code::InvalidField, "{bad}");
        }
    }
}
