//! The statements that the model answers: each by its text, with the types of its parameters and columns, the rows that
//! it locks, and what it does.
//!
//! A statement that is not here ends the run: who changes one in `store/postgres` changes it here too.

mod callers;
mod history;
mod lanes;
mod questions;
mod seats;

use super::tables::Tables;
use std::error::Error;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

/// A row that a statement locks until its transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Meta,
    Seat(i16),
    Lane(i16),
    Shard(i16),
}

/// What a statement is refused with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refused {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }
}

/// The parameters of a statement.
pub(super) struct Arguments<'a> {
    pub(super) types: &'a [Type],
    pub(super) values: &'a [Option<Vec<u8>>],
    /// The time of the database.
    pub(super) now_ms: f64,
}

impl<'a> Arguments<'a> {
    /// Returns a parameter, by its number in the text.
    pub(super) fn get<T: FromSql<'a>>(&self, number: usize) -> T {
        let value = self.values[number - 1].as_deref();
        T::from_sql_nullable(&self.types[number - 1], value).expect("a parameter of this type")
    }
}

/// One row of an answer.
pub(super) type Row = Vec<Option<Vec<u8>>>;

/// What a statement returns: rows, or how many it changed.
pub(super) enum Answer {
    Rows(Vec<Vec<Box<dyn ToSql>>>),
    Changed(usize),
}

/// See the module.
pub(super) struct Statement {
    pub(super) sql: &'static str,
    pub(super) takes: &'static [Type],
    pub(super) gives: &'static [Type],
    /// Empty for a question.
    pub(super) locks: fn(&Tables, &Arguments<'_>) -> Vec<Key>,
    pub(super) run: fn(&mut Tables, &Arguments<'_>) -> Result<Answer, Refused>,
}

/// A question locks nothing.
fn nothing(_: &Tables, _: &Arguments<'_>) -> Vec<Key> {
    Vec::new()
}

macro_rules! row {
    ($($value:expr),* $(,)?) => {{
        let row: Vec<Box<dyn tokio_postgres::types::ToSql>> = vec![$(Box::new($value)),*];
        row
    }};
}
use row;

/// Returns the statement with this text, in which the schema is `model`.
pub(super) fn find(sql: &str) -> Option<&'static Statement> {
    let asked = words(&sql.replace("model.", "@."));
    let all = [
        seats::ALL,
        lanes::ALL,
        history::ALL,
        questions::ALL,
        callers::ALL,
    ];
    let mut all = all.into_iter().flatten();
    all.find(|known| words(known.sql) == asked)
}

fn words(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Statement {
    /// Runs it. Returns its rows, and the number that it read or changed.
    pub(super) fn answer(
        &self,
        tables: &mut Tables,
        values: &[Option<Vec<u8>>],
        now_ms: f64,
    ) -> Result<(Vec<Row>, usize), Refused> {
        let arguments = self.arguments(values, now_ms);
        match (self.run)(tables, &arguments)? {
            Answer::Changed(count) => Ok((Vec::new(), count)),
            Answer::Rows(rows) => {
                let count = rows.len();
                let rows = rows.iter().map(|row| self.encoded(row));
                Ok((rows.collect(), count))
            }
        }
    }

    pub(super) fn arguments<'a>(
        &self,
        values: &'a [Option<Vec<u8>>],
        now_ms: f64,
    ) -> Arguments<'a> {
        Arguments {
            types: self.takes,
            values,
            now_ms,
        }
    }

    fn encoded(&self, row: &[Box<dyn ToSql>]) -> Row {
        let encode = |value: &dyn ToSql, of: &Type| -> Result<_, Box<dyn Error + Sync + Send>> {
            let mut bytes = BytesMut::new();
            let is_null = value.to_sql_checked(of, &mut bytes)?;
            Ok(matches!(is_null, IsNull::No).then(|| bytes.to_vec()))
        };
        assert_eq!(row.len(), self.gives.len(), "columns of {}", self.sql);
        let columns = row.iter().zip(self.gives);
        let columns = columns.map(|(value, of)| encode(&**value, of).expect(self.sql));
        columns.collect()
    }
}
