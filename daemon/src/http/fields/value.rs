//! One value, read as the type of its field: JSON as it was written, or a word of a query.

use super::flaw::Flaw;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    Deserialize, Deserializer, Error, IntoDeserializer, MapAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A JSON value.
///
/// Optional fields may be omitted. `Option<T>` is a value or absent; `Option<Option<T>>` is a value, null or absent.
#[derive(Clone, Copy)]
pub(in crate::http) struct Value<'de> {
    json: &'de RawValue,
    /// Whether this is the value of a field: as an option it is always `Some`.
    is_field: bool,
}

impl<'de> Value<'de> {
    /// The value of a field.
    pub(super) fn of_field(json: &'de RawValue) -> Self {
        Self {
            json,
            is_field: true,
        }
    }

    fn inner(json: &'de RawValue) -> Self {
        Self {
            json,
            is_field: false,
        }
    }

    fn text(self) -> Result<Cow<'de, str>, Flaw> {
        let json = self.json.get();
        let plain = json
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        match plain {
            Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
            // JSON escapes can hold an unpaired surrogate.
            _ => serde_json::from_str(json).map(Cow::Owned).map_err(|_| {
                Flaw::invalid_value(
                    Unexpected::Str(json),
                    &"a string without unpaired surrogates",
                )
            }),
        }
    }

    fn visit_number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        let json = self.json.get();
        if let Ok(whole) = json.parse() {
            return visitor.visit_u64(whole);
        }
        match serde_json::from_str(json) {
            Ok(number) => visitor.visit_f64(number),
            Err(_) => Err(Flaw::invalid_value(
                Unexpected::Float(f64::INFINITY),
                &"a number that fits in 64 bits",
            )),
        }
    }
}

impl<'de> IntoDeserializer<'de, Flaw> for Value<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        let json = self.json.get();
        match json.as_bytes().first() {
            Some(b'"') => match self.text()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Some(b'n') => visitor.visit_unit(),
            Some(b't') => visitor.visit_bool(true),
            Some(b'f') => visitor.visit_bool(false),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json).map_err(Flaw::custom)?;
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Value::inner)))
            }
            Some(b'{') => {
                let Pairs(pairs) = serde_json::from_str(json).map_err(Flaw::custom)?;
                let pairs = pairs.into_iter();
                visitor.visit_map(MapDeserializer::new(
                    pairs.map(|(name, value)| (name, Value::inner(value))),
                ))
            }
            _ => self.visit_number(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.json.get() {
            "null" if !self.is_field => visitor.visit_none(),
            _ => visitor.visit_some(Self::inner(self.json)),
        }
    }

    /// Passes the value as it was written.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        visitor.visit_borrowed_bytes(self.json.get().as_bytes())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string byte_buf unit unit_struct seq tuple tuple_struct map
        struct enum identifier ignored_any
    }
}

/// The members of an object in order, with duplicates; the rules of each use judge those.
pub(in crate::http) struct Pairs<V>(pub(in crate::http) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Reading<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Reading(PhantomData))
    }
}

/// A JSON value as it was written.
pub(in crate::http) struct Verbatim<'de>(pub(in crate::http) &'de [u8]);

impl<'de: 'a, 'a> Deserialize<'de> for Verbatim<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(from).map(Self)
    }
}

/// The value of a parameter of a query.
#[derive(Clone, Copy)]
pub(in crate::http) struct Word<'w>(pub(super) &'w str);

impl<'de> Deserializer<'de> for Word<'_> {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        visitor.visit_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(Flaw::invalid_value(Unexpected::Str(other), &visitor)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct enum identifier ignored_any
    }
}
