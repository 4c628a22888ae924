//! What is accepted, what is refused and with which words, whatever the type.

use super::*;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sample<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    is_on: Option<bool>,
    rate_or_none: Option<Option<f64>>,
    list: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct First {
    a_b: Option<String>,
    is_on: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Second {
    c: Option<String>,
}

fn sample(body: &str) -> Result<Sample<'_>, Problem> {
    read(body.as_bytes())
}

fn refused(body: &str) -> (Code, Option<String>, String) {
    let problem = sample(body).unwrap_err();
    let field = problem.field.map(Cow::into_owned);
    (problem.code, field, problem.detail.into_owned())
}

#[test]
fn members_come_out_as_they_were_written() {
    let body = br#" { "isOn" : [ 1.0 ,2] , "name":"x" } "#;
    let members = Members::of::<Sample<'_>>(body).unwrap();
    let values: Vec<_> = members.values().collect();
    assert_eq!(values, [Some("\"x\""), Some("[ 1.0 ,2]"), None, None]);
}

#[test]
fn values_are_read_as_their_types() {
    let read = sample(r#"{"list":["a","b"],"isOn":true,"name":"x"}"#).unwrap();
    assert_eq!((&*read.name, read.is_on), ("x", Some(true)));
    assert_eq!(read.list.unwrap(), ["a", "b"]);
}

#[test]
fn left_out_null_and_given_are_three_things() {
    let rate = |body: &str| sample(body).unwrap().rate_or_none;
    assert_eq!(rate(r#"{"name":"x"}"#), None);
    assert_eq!(rate(r#"{"name":"x","rateOrNone":null}"#), Some(None));
    assert_eq!(rate(r#"{"name":"x","rateOrNone":2}"#), Some(Some(2.0)));
    let (code, field, detail) = refused(r#"{"name":"x","isOn":null}"#);
    assert_eq!((code, field.as_deref()), (Code::InvalidField, Some("isOn")));
    assert_eq!(detail, "isOn must be true or false, not null.");
}

#[test]
fn text_is_unescaped_only_where_it_must_be() {
    let plain = sample(r#"{"name":"abc"}"#).unwrap();
    assert!(matches!(plain.name, Cow::Borrowed("abc")));
    let escaped = sample(r#"{"name":"a\u0062\""}"#).unwrap();
    assert_eq!(escaped.name, "ab\"");
    for bad in ["1", "null", r#""\ud800""#, "[\"a\"]", "{}"] {
        let (code, field, detail) = refused(&format!(r#"{{"name":{bad}}}"#));
        assert_eq!((code, field.as_deref()), (Code::InvalidField, Some("name")));
        assert!(detail.starts_with("name must be a string"), "{detail}");
    }
}

#[test]
fn each_refusal_names_its_field_and_says_what_to_do() {
    for (body, code, field, detail) in [
        ("{}", Code::InvalidField, Some("name"), "name is required."),
        (
            r#"{"name":"x","more":1}"#,
            Code::UnknownField,
            Some("more"),
            "Unknown field \"more\". Known fields: name, isOn, rateOrNone, list.",
        ),
        (
            r#"{"name":"x","list":["a",1],"name":"y"}"#,
            Code::InvalidJson,
            None,
            "The object has \"name\" twice. Send it once.",
        ),
        (
            r#"{"name":"x","list":{}}"#,
            Code::InvalidField,
            Some("list"),
            "list must be a sequence, not an object.",
        ),
        (
            r#"{"name":"x","rateOrNone":1e999}"#,
            Code::InvalidField,
            Some("rateOrNone"),
            "rateOrNone must be a number that fits in 64 bits, not this number.",
        ),
        (
            "[]",
            Code::InvalidJson,
            None,
            "Expected a JSON object, {…}.",
        ),
    ] {
        let expected = (code, field.map(str::to_owned), detail.to_owned());
        assert_eq!(refused(body), expected, "{body}");
    }
}

#[test]
fn text_that_is_no_json_goes_before_any_other_flaw() {
    for bad in [
        r#"{"x":1,"name":}"#,
        r#"{"name":1,"name":2"#,
        "{}{}",
        "[",
        "\u{feff}{}",
    ] {
        let (code, field, _) = refused(bad);
        assert_eq!((code, field), (Code::InvalidJson, None), "{bad}");
    }
}

#[test]
fn a_byte_order_mark_is_named() {
    for bytes in [&b"\xef\xbb\xbf{}"[..], b"\xff\xfe{\0}\0", b"\xfe\xff\0{\0}"] {
        let problem = read::<Sample<'_>>(bytes).unwrap_err();
        assert_eq!(problem.code, Code::InvalidJson);
        let detail = problem.detail;
        assert!(detail.contains("byte order mark"), "{detail}");
    }
}

#[test]
fn a_query_may_be_for_several_types() {
    let asked = |text: &str| query::<(First, Second)>(&text.parse().unwrap());
    let (first, second) = asked("/?c=%2B1&isOn=true&aB=").unwrap();
    assert_eq!((first.a_b.as_deref(), first.is_on), (Some(""), Some(true)));
    assert_eq!(second.c.as_deref(), Some("+1"));
    for (text, code, field, detail) in [
        (
            "/?c=1&d=2",
            Code::UnknownField,
            "d",
            "Unknown field \"d\". Known fields: aB, isOn, c.",
        ),
        (
            "/?c=1&c=1",
            Code::InvalidField,
            "c",
            "c is sent twice. Send it once.",
        ),
        (
            "/?isOn=yes",
            Code::InvalidField,
            "isOn",
            "isOn must be true or false, not this string.",
        ),
    ] {
        let problem = asked(text).unwrap_err();
        assert_eq!(
            (problem.code, problem.field.as_deref()),
            (code, Some(field))
        );
        assert_eq!(problem.detail, detail);
    }
    let none = query::<()>(&"/?x=1".parse().unwrap()).unwrap_err();
    assert_eq!(none.code, Code::UnknownField);
    assert!(none.detail.contains("takes none"), "{}", none.detail);
}
