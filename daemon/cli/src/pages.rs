//! Reads a list page by page: `--limit` rows, or `--all`, starting at a `--cursor`.
//!
//! A page may be short or even empty while `nextCursor` is set, so only a null cursor is the end. Damage that a page
//! names is reported on stderr.

use clap::Args;
use serde_json::Value;

use crate::Session;
use crate::client::path_with_query;
use crate::failure::Failure;
use crate::table::{Cell, Table};
use crate::terminal::plain;

/// The maximum number of rows per page in the API.
const PAGE_ROWS: usize = 250;

/// How much of a list to show.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// How many to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit, conflicts_with = "all")]
    limit: usize,
    /// Show all of them
    #[arg(long)]
    all: bool,
    /// Continue where an earlier page ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

fn limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|rows| *rows > 0)
        .ok_or_else(|| "a whole number above 0; --all shows everything".to_owned())
}

/// Prints a list: with `--json` each page as the API returned it, one per line, else as a table of rows made by `row`.
pub(crate) async fn list(
    session: &Session,
    path: &str,
    filters: &[(&str, Option<&str>)],
    paging: &Paging,
    heads: &[&'static str],
    row: impl Fn(&Value) -> Vec<Cell>,
) -> Result<(), Failure> {
    let mut table = Table::new(heads, session.screen.colour);
    let mut cursor = paging.cursor.clone();
    let mut shown = 0_usize;
    loop {
        let want = if paging.all {
            PAGE_ROWS
        } else {
            (paging.limit - shown).min(PAGE_ROWS)
        };
        let want_text = want.to_string();
        let mut parameters = filters.to_vec();
        parameters.push(("limit", Some(&want_text)));
        parameters.push(("cursor", cursor.as_deref()));
        let answer = session
            .client
            .get(&path_with_query(path, &parameters))
            .await?;
        let page = answer.value()?;
        let rows = page
            .get("data")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        shown += rows.len();
        if session.screen.json {
            session.screen.answer(&answer.body)?;
        } else if !rows.is_empty() {
            session
                .screen
                .line(&table.part(&rows.iter().map(&row).collect::<Vec<_>>()))?;
        }
        let damaged = page.get("damaged").and_then(Value::as_array);
        for damaged in damaged.into_iter().flatten() {
            session.screen.complain(&unreadable(damaged));
        }
        cursor = page
            .get("nextCursor")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let Some(next) = &cursor else { break };
        if !paging.all && shown >= paging.limit {
            if !session.screen.json {
                session.screen.remark(&format!(
                    "There are more. Use --all, or --cursor {}",
                    plain(next)
                ));
            }
            return Ok(());
        }
    }
    if shown == 0 && !session.screen.json {
        session.screen.remark("Nothing found.");
    }
    Ok(())
}

/// Describes the damage that a page names.
fn unreadable(damaged: &Value) -> String {
    let text = |name| damaged.get(name).and_then(Value::as_str).map(plain);
    let number = |name| damaged.get(name).and_then(Value::as_u64);
    let what = match (text("id"), text("fromEvent"), text("beforeEvent")) {
        (Some(id), ..) => match (number("fromSequence"), number("beforeSequence")) {
            (Some(from), Some(before)) => {
                format!("{id}, sequence numbers {from} up to {before}")
            }
            _ => id,
        },
        (None, Some(from), Some(before)) => format!("any rows from {from} up to {before}"),
        _ => "part of the list".to_owned(),
    };
    format!("can't show {what}: {}", text("detail").unwrap_or_default())
}
