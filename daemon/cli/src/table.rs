//! Columns of text: as wide as the widest cell, not counting colours, with numbers right-aligned.

use serde_json::Value;

use crate::terminal::{Tone, paint, plain};

/// The maximum width of a column: one long URL must not push everything else off the screen.
const WIDEST_COLUMN_CHARS: usize = 64;

/// One cell: text that is safe to print, and its tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// Returns a cell with any text.
    pub(crate) fn text(text: &str) -> Self {
        Self {
            text: plain(text),
            tone: Tone::Plain,
            right: false,
        }
    }

    /// Returns a cell with text in a tone.
    pub(crate) fn toned(tone: Tone, text: &str) -> Self {
        Self {
            tone,
            ..Self::text(text)
        }
    }

    /// Returns a cell with a right-aligned number.
    pub(crate) fn number(text: &str) -> Self {
        Self {
            right: true,
            ..Self::text(text)
        }
    }

    /// Returns the value of a key in an object: strings unchanged, null as `-`, everything else as JSON.
    pub(crate) fn of(object: &Value, key: &str) -> Self {
        let value = object.get(key).unwrap_or(&Value::Null);
        match value {
            Value::Number(number) => Self::number(&number.to_string()),
            other => Self::text(&words(other)),
        }
    }

    /// Returns the same cell in another tone.
    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// Returns a JSON value as the text of a cell.
pub(crate) fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Returns a count with its noun, in the singular or plural: `1 delivery`, `1,234 deliveries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    let name = if number == 1 { one } else { many };
    format!("{} {name}", grouped(number))
}

/// Returns a size for people, in the units of the configuration.
pub(crate) fn size_words(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

/// Returns a count with thousands separators.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A table that is printed in one or more parts with the same columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    widths: Vec<usize>,
    head_printed: bool,
    colour: bool,
}

impl Table {
    /// Returns a table with these column heads.
    pub(crate) fn new(heads: &[&'static str], colour: bool) -> Self {
        let widths = heads.iter().map(|head| head.chars().count()).collect();
        Self {
            heads: heads.to_vec(),
            widths,
            head_printed: false,
            colour,
        }
    }

    /// Returns these rows as lines, under the heads if they weren't printed yet. Widths only grow, so parts align as
    /// well as they can.
    pub(crate) fn part(&mut self, rows: &[Vec<Cell>]) -> String {
        for row in rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count().min(WIDEST_COLUMN_CHARS));
            }
        }
        let mut out = String::new();
        if !self.head_printed {
            self.head_printed = true;
            let rights: Vec<bool> = (0..self.heads.len())
                .map(|column| {
                    rows.first()
                        .and_then(|row| row.get(column))
                        .is_some_and(|cell| cell.right)
                })
                .collect();
            let heads: Vec<Cell> = self
                .heads
                .iter()
                .zip(rights)
                .map(|(head, right)| Cell {
                    text: (*head).to_owned(),
                    tone: Tone::Dim,
                    right,
                })
                .collect();
            self.push_line(&mut out, &heads);
        }
        for row in rows {
            self.push_line(&mut out, row);
        }
        out.truncate(out.trim_end_matches('\n').len());
        out
    }

    fn push_line(&self, out: &mut String, row: &[Cell]) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            // The last column is never cut: nothing follows it.
            let text = if index + 1 == row.len() {
                cell.text.clone()
            } else {
                clip(&cell.text, *width)
            };
            let padding = " ".repeat(width.saturating_sub(text.chars().count()));
            let painted = paint(self.colour, cell.tone, &text);
            if index > 0 {
                line.push_str("  ");
            }
            if cell.right {
                line.push_str(&padding);
                line.push_str(&painted);
            } else {
                line.push_str(&painted);
                line.push_str(&padding);
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// Truncates text to this many characters, marked with `…`.
pub(crate) fn clip(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars()
        .take(chars.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// Returns pairs of name and value, one per line, with the values aligned.
pub(crate) fn pairs(rows: &[(&str, Cell)], colour: bool) -> String {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let lines: Vec<String> = rows
        .iter()
        .map(|(name, cell)| {
            let padded = format!("{name:<width$}");
            format!(
                "{}  {}",
                paint(colour, Tone::Dim, &padded),
                paint(colour, cell.tone, &cell.text)
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_told_in_the_largest_unit_that_it_fills() {
        let told = [0, 1_023, 1_024, 1_600, (1 << 20) - 1, 5 << 29].map(size_words);
        let expected = [
            "0 bytes",
            "1023 bytes",
            "1.0 KiB",
            "1.5 KiB",
            "1023.9 KiB",
            "2.5 GiB",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn columns_line_up_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["ID", "COUNT"], false);
        let text = table.part(&[
            vec![Cell::text("ep_1"), Cell::number("7")],
            vec![Cell::text("ep_long"), Cell::number("1234567")],
        ]);
        assert_eq!(text, "ID         COUNT\nep_1           7\nep_long  1234567");
    }

    #[test]
    fn a_second_part_has_no_second_head() {
        let mut table = Table::new(&["ID"], false);
        assert_eq!(table.part(&[vec![Cell::text("a")]]), "ID\na");
        assert_eq!(table.part(&[vec![Cell::text("b")]]), "b");
    }

    #[test]
    fn a_long_cell_is_cut_and_says_so() {
        let mut table = Table::new(&["URL", "N"], false);
        let text = table.part(&[vec![Cell::text(&"x".repeat(500)), Cell::number("1")]]);
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= WIDEST_COLUMN_CHARS + 3),
            "{text}"
        );
        assert!(text.contains('…'));
    }

    #[test]
    fn the_last_column_is_never_cut() {
        let long = "x".repeat(500);
        let mut table = Table::new(&["ID", "URL"], false);
        let text = table.part(&[vec![Cell::text("ep_1"), Cell::text(&long)]]);
        assert_eq!(text, format!("ID    URL\nep_1  {long}"));
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "delivery", "deliveries"), "1 delivery");
        assert_eq!(counted(0, "delivery", "deliveries"), "0 deliveries");
        assert_eq!(counted(1_234, "delivery", "deliveries"), "1,234 deliveries");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)]
                .each_ref()
                .map(String::as_str)
        );
    }

    #[test]
    fn colour_does_not_count_as_width() {
        let rows = [vec![Cell::toned(Tone::Good, "ok"), Cell::text("x")]];
        let plain = Table::new(&["STATE", "X"], false).part(&rows);
        let coloured = Table::new(&["STATE", "X"], true).part(&rows);
        let stripped = coloured
            .replace("\u{1b}[32m", "")
            .replace("\u{1b}[2m", "")
            .replace("\u{1b}[0m", "");
        assert_eq!(stripped, plain);
    }
}
