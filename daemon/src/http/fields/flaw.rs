//! Why a value is invalid: turns serde's errors into the API's, in one place.

use crate::http::problem::Problem;
use serde::de::{Error, Expected, Unexpected};
use std::borrow::Cow;
use std::fmt;

/// See the module.
#[derive(Debug)]
pub(in crate::http) enum Flaw {
    /// Nothing to read.
    Nothing,
    /// A required field is missing.
    Missing(&'static str),
    /// The value has another type than expected.
    Other {
        came: &'static str,
        expected: Cow<'static, str>,
    },
    /// A message from the type itself, as a sentence.
    Said(String),
    /// One of these, already assigned to a field.
    Of(Problem),
}

impl Flaw {
    /// Assigns this to a field and words it.
    pub(super) fn of(self, field: &'static str) -> Self {
        Self::Of(match self {
            Self::Of(problem) => problem,
            Self::Said(detail) => Problem::field(field, detail),
            Self::Other { came, expected } => {
                Problem::field(field, format!("{field} must be {expected}, not {came}."))
            }
            Self::Missing(_) | Self::Nothing => missing(field),
        })
    }

    /// Returns the error response.
    pub(super) fn into_problem(self) -> Problem {
        match self {
            Self::Of(problem) => problem,
            Self::Missing(field) => missing(field),
            // An invalid value is always that of a field.
            Self::Nothing | Self::Other { .. } | Self::Said(_) => {
                crate::http::problem::unexpected()
            }
        }
    }
}

fn missing(field: &'static str) -> Problem {
    Problem::field(field, format!("{field} is required."))
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to read"),
            Self::Missing(field) => write!(f, "{field} is missing"),
            Self::Other { came, expected } => write!(f, "expected {expected}, got {came}"),
            Self::Said(detail) => f.write_str(detail),
            Self::Of(problem) => f.write_str(&problem.detail),
        }
    }
}

impl std::error::Error for Flaw {}

impl Error for Flaw {
    fn custom<T: fmt::Display>(detail: T) -> Self {
        Self::Said(detail.to_string())
    }

    fn invalid_type(came: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Other {
            came: kind(came),
            expected: match expected.to_string() {
                text if text == "a boolean" => "true or false".into(),
                text => text.into(),
            },
        }
    }

    fn invalid_value(came: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(came, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Missing(field)
    }
}

/// Describes a value without its content, which may be a secret.
fn kind(came: Unexpected<'_>) -> &'static str {
    match came {
        Unexpected::Map => "an object",
        Unexpected::Seq => "a list",
        Unexpected::Str("") => "an empty string",
        Unexpected::Str(_) => "this string",
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "this number",
        _ => "this value",
    }
}
