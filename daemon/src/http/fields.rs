//! Reads a request into the type that describes it: the members of a body, the parameters of a query.
//!
//! The type's `Deserialize` names the fields and their types; its `ToSchema` or `IntoParams` describes the same. This
//! module checks that every field is known and appears once, and words each refusal in the same way for all types.
//! Errors in the text come first, then errors in the names, then the values in the order of the type.
//!
//! A required field with a type of its own must pass on the deserializer's errors: a missing field is one of them.

mod flaw;
mod value;

pub(super) use value::{Pairs, Verbatim};

use super::problem::{Code, Problem};
use flaw::Flaw;
use http::Uri;
use serde::de::value::U64Deserializer;
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny,
    IntoDeserializer, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use value::{Value, Word};

/// How much of an unknown name an error repeats, in bytes.
const SHOWN_NAME_BYTES: usize = 100;

/// No body has more fields; their values are kept on the stack.
const MOST_FIELDS: usize = 16;

/// The names of a type's fields, in order.
type Names = &'static [&'static str];

/// Reads the JSON object `body`.
///
/// # Errors
/// `invalid_json` if it is not a JSON object, or a member appears twice; `unknown_field` if it has a member that `T`
/// doesn't; `invalid_field` if a member is missing or invalid.
pub(super) fn read<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Problem> {
    Members::of::<T>(body)?.read()
}

/// The members of a JSON object, each as it was written, in the order of the fields of their type.
pub(super) struct Members<'de> {
    names: Names,
    values: [Option<&'de RawValue>; MOST_FIELDS],
}

impl<'de> Members<'de> {
    /// Splits an object into members, by the names of the fields of `T`.
    ///
    /// # Errors
    /// `invalid_json` or `unknown_field`, as for [`read`].
    pub(super) fn of<T: Deserialize<'de>>(body: &'de [u8]) -> Result<Self, Problem> {
        let text = text_of(body)?;
        let names = names_of::<T>();
        debug_assert!(names.len() <= MOST_FIELDS, "{names:?}");
        let mut members = Self {
            names,
            values: [None; MOST_FIELDS],
        };
        let mut flaw = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let object = Object {
            members: &mut members,
            flaw: &mut flaw,
        };
        json.deserialize_map(object)
            .and_then(|()| json.end())
            .map_err(|error| not_json(&error))?;
        match flaw {
            None => Ok(members),
            Some(NameFlaw::Twice(name)) => Err(Problem::new(
                Code::InvalidJson,
                format!("The object has {name:?} twice. Send it once."),
            )),
            Some(NameFlaw::Unknown(name)) => Err(Problem::unknown(name, names)),
        }
    }

    /// Returns the value of each field as it was written.
    pub(super) fn values(&self) -> impl Iterator<Item = Option<&'de str>> {
        let values = self.values.iter().take(self.names.len());
        values.map(|value| value.map(RawValue::get))
    }

    /// Reads the members as their type.
    ///
    /// # Errors
    /// `invalid_field` if one is missing or invalid.
    pub(super) fn read<T: Deserialize<'de>>(&self) -> Result<T, Problem> {
        let find = |at: usize, _| Some(Value::of_field((*self.values.get(at)?)?));
        T::deserialize(Given(find)).map_err(Flaw::into_problem)
    }
}

fn text_of(body: &[u8]) -> Result<&str, Problem> {
    if let Some(mark) = byte_order_mark(body) {
        return Err(Problem::new(
            Code::InvalidJson,
            format!("The JSON starts with a byte order mark ({mark}). Send UTF-8 without one."),
        ));
    }
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(
            Code::InvalidJson,
            format!("The JSON is not valid UTF-8 (at byte {at})."),
        )
    })
}

/// Names the byte order mark that a text begins with (RFC 8259, section 8.1: JSON has none).
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

enum NameFlaw {
    Unknown(String),
    Twice(&'static str),
}

/// Stores the values of an object by the place of their names.
struct Object<'m, 'de> {
    members: &'m mut Members<'de>,
    flaw: &'m mut Option<NameFlaw>,
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let names = self.members.names;
        while let Some(name) = map.next_key_seed(Name(names))? {
            // An invalid value is reported last: text that is not JSON at all is reported first.
            let place = match name {
                Ok(at) => self.members.values.get_mut(at).zip(names.get(at)),
                Err(unknown) => {
                    self.flaw.get_or_insert(NameFlaw::Unknown(unknown));
                    None
                }
            };
            let Some((place, name)) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if place.replace(map.next_value()?).is_some() {
                *self.flaw = Some(NameFlaw::Twice(name));
            }
        }
        Ok(())
    }
}

/// A member's name, read as its place among the known names.
struct Name(Names);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Result<usize, String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Result<usize, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let known = self.0.iter().position(|known| *known == name);
        Ok(known.ok_or_else(|| shown(name)))
    }
}

fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(SHOWN_NAME_BYTES);
    name.get(..end).unwrap_or_default().to_owned()
}

/// The parameters of a query: those of one type, of several, or none.
pub(super) trait Parameters: Sized {
    /// Returns their names.
    fn names() -> Vec<&'static str>;

    /// Reads them from a query.
    fn read(query: &Query<'_>) -> Result<Self, Problem>;
}

macro_rules! parameters {
    ($($kind:ident),*) => {
        impl<$($kind: DeserializeOwned),*> Parameters for ($($kind,)*) {
            fn names() -> Vec<&'static str> {
                let all: &[Names] = &[$(names_of::<$kind>()),*];
                all.concat()
            }

            fn read(_query: &Query<'_>) -> Result<Self, Problem> {
                Ok(($(_query.read::<$kind>()?,)*))
            }
        }
    };
}

parameters!();
parameters!(A);
parameters!(A, B);
parameters!(A, B, C);

/// Reads a query. Each parameter may appear once; unknown ones are refused.
///
/// # Errors
/// `unknown_field` if it has a parameter that `T` doesn't; `invalid_field` if one appears twice or is invalid.
pub(super) fn query<T: Parameters>(uri: &Uri) -> Result<T, Problem> {
    let names = T::names();
    let mut words: Vec<(&'static str, Cow<'_, str>)> = Vec::new();
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()) {
        let Some(known) = names.iter().find(|known| **known == name) else {
            return Err(Problem::unknown(shown(&name), &names));
        };
        if words.iter().any(|(earlier, _)| earlier == known) {
            return Err(Problem::field(
                *known,
                format!("{known} is sent twice. Send it once."),
            ));
        }
        words.push((known, value));
    }
    T::read(&Query(words))
}

/// The parameters of a query, with their values.
pub(super) struct Query<'u>(Vec<(&'static str, Cow<'u, str>)>);

impl Query<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let find = |_, name| {
            let word = self.0.iter().find(|(came, _)| *came == name)?;
            Some(Word(&word.1))
        };
        T::deserialize(Given(find)).map_err(Flaw::into_problem)
    }
}

/// Returns the names of the fields of a derived type.
fn names_of<'de, T: Deserialize<'de>>() -> Names {
    let mut names: Names = &[];
    // Deserializing stops at the names: there is nothing to read.
    let _nothing = T::deserialize(Asking(&mut names));
    names
}

struct Asking<'n>(&'n mut Names);

impl<'de> Deserializer<'de> for Asking<'_> {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Flaw> {
        Err(Flaw::Nothing)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: Names,
        _: V,
    ) -> Result<V::Value, Flaw> {
        *self.0 = names;
        Err(Flaw::Nothing)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A source that a derived type reads its fields from, by place and name. Absent fields have no value.
struct Given<F>(F);

impl<'de, L, F> Deserializer<'de> for Given<F>
where
    L: Deserializer<'de, Error = Flaw>,
    F: Fn(usize, &'static str) -> Option<L>,
{
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Flaw> {
        Err(Flaw::Nothing)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: Names,
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        visitor.visit_map(Fields {
            names,
            next: 0,
            find: self.0,
            value: None,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields that are present, one after another.
struct Fields<F, L> {
    names: Names,
    next: usize,
    find: F,
    value: Option<(&'static str, L)>,
}

impl<'de, L, F> MapAccess<'de> for Fields<F, L>
where
    L: Deserializer<'de, Error = Flaw>,
    F: Fn(usize, &'static str) -> Option<L>,
{
    type Error = Flaw;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Flaw> {
        while let Some(name) = self.names.get(self.next) {
            let at = self.next;
            self.next += 1;
            if let Some(value) = (self.find)(at, name) {
                self.value = Some((name, value));
                // A derived type also accepts the place of a field as its name.
                let place: U64Deserializer<Flaw> =
                    u64::try_from(at).map_err(Flaw::custom)?.into_deserializer();
                return seed.deserialize(place).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Flaw> {
        let (name, value) = self.value.take().ok_or(Flaw::Nothing)?;
        seed.deserialize(value).map_err(|flaw| flaw.of(name))
    }
}

#[cfg(test)]
mod tests;
