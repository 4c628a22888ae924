//! The table and its JSON. A target is met or not; neither fails the run.

use serde_json::{Value, json};

/// Which side of a target is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The figure or more.
    AtLeast,
    /// The figure or less.
    AtMost,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    scenario: &'static str,
    line: String,
    figure: String,
    value: f64,
    limit: Option<String>,
    ratio: Option<f64>,
    target: Option<(Wanted, f64, String)>,
}

impl Row {
    /// Creates a line with a figure as text and as a number.
    pub(crate) fn new(
        scenario: &'static str,
        line: impl Into<String>,
        figure: String,
        value: f64,
    ) -> Self {
        let line = line.into();
        Self {
            scenario,
            line,
            figure,
            value,
            limit: None,
            ratio: None,
            target: None,
        }
    }

    /// Sets the limit that was measured in the same run, and the ratio.
    pub(crate) fn against(mut self, limit: impl Into<String>, ratio: f64) -> Self {
        self.limit = Some(limit.into());
        self.ratio = Some(ratio);
        self
    }

    /// Sets the target of the figure.
    pub(crate) fn target(mut self, wanted: Wanted, bound: f64, text: &str) -> Self {
        self.target = Some((wanted, bound, text.to_owned()));
        self
    }

    /// Whether the target is met: by the ratio if there is one, else by the figure.
    fn met(&self) -> Option<bool> {
        let (wanted, bound, _) = self.target.as_ref()?;
        let value = self.ratio.unwrap_or(self.value);
        Some(match wanted {
            Wanted::AtLeast => value >= *bound,
            Wanted::AtMost => value <= *bound,
        })
    }

    fn cells(&self) -> [String; 6] {
        let ratio = self
            .ratio
            .map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "not met",
            None => "",
        };
        [
            self.line.clone(),
            self.figure.clone(),
            self.limit.clone().unwrap_or_default(),
            ratio,
            self.target
                .as_ref()
                .map_or(String::new(), |(_, _, text)| text.clone()),
            met.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "line": self.line,
            "figure": self.figure,
            "value": self.value,
            "limit": self.limit,
            "ratio": self.ratio,
            "target": self.target.as_ref().map(|(_, _, text)| text),
            "met": self.met(),
        })
    }
}

/// One curve: points of `x` and `y`, in the order in which they are joined.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    /// Its name in the legend.
    pub(crate) name: String,
    /// The points.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Curves in one plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The name of the plot's file, without its extension.
    pub(crate) name: &'static str,
    /// The title of the plot.
    pub(crate) title: String,
    /// The labels of the axes, with units.
    pub(crate) axes: (&'static str, &'static str),
    /// Whether each axis is logarithmic.
    pub(crate) powers: (bool, bool),
    /// The curves.
    pub(crate) curves: Vec<Curve>,
}

impl Plot {
    fn json(&self) -> Value {
        let curves = self
            .curves
            .iter()
            .map(|curve| json!({"name": curve.name, "points": curve.points}));
        json!({
            "name": self.name,
            "title": self.title,
            "x": self.axes.0,
            "y": self.axes.1,
            "curves": curves.collect::<Vec<_>>(),
        })
    }
}

/// The results of a run.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    plots: Vec<Plot>,
    notes: Vec<String>,
    wrong: Vec<String>,
}

impl Report {
    /// Adds a line.
    pub(crate) fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds a plot.
    pub(crate) fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    /// Returns the plots.
    pub(crate) fn plots(&self) -> &[Plot] {
        &self.plots
    }

    /// Adds a note, shown under the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds an error, which makes the run fail.
    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// Whether nothing was lost or wrong.
    pub(crate) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Returns the table as text, in columns.
    pub(crate) fn table(&self) -> String {
        const HEAD: [&str; 6] = ["line", "figure", "against", "ratio", "target", ""];
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(self.rows.iter().map(Row::cells));
        let mut widths = [0; 6];
        for cells in &lines {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        lines.insert(1, widths.map(|width| "-".repeat(width)));
        let mut text = String::new();
        for cells in &lines {
            let padded: Vec<String> = cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            text.push_str(padded.join("  ").trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        for what in &self.wrong {
            text.push_str(&format!("WRONG: {what}\n"));
        }
        text
    }

    /// Returns the same as JSON.
    pub(crate) fn json(&self, machine: &str, quick: bool) -> Value {
        json!({
            "version": 1,
            "machine": machine,
            "quick": quick,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "plots": self.plots.iter().map(Plot::json).collect::<Vec<_>>(),
            "notes": self.notes,
            "wrong": self.wrong,
        })
    }
}

/// Returns a readable size.
pub(crate) fn bytes_text(bytes: f64) -> String {
    if bytes >= 1_048_576.0 {
        format!("{:.1} MiB", bytes / 1_048_576.0)
    } else if bytes >= 1_024.0 {
        format!("{:.2} KiB", bytes / 1_024.0)
    } else {
        format!("{bytes:.0} B")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_judged_before_the_figure() {
        let row = Row::new("s", "l", "9".into(), 9.0).target(Wanted::AtMost, 2.0, "≤ 2");
        assert_eq!(row.met(), Some(false));
        assert_eq!(row.against("8", 1.1).met(), Some(true));
    }

    #[test]
    fn a_line_without_a_target_is_neither_met_nor_missed() {
        assert_eq!(Row::new("s", "l", "9".into(), 9.0).met(), None);
    }

    #[test]
    fn columns_stand_under_each_other() {
        let mut report = Report::default();
        report.row(Row::new("s", "a longer line", "1".into(), 1.0));
        report.row(Row::new("s", "b", "22".into(), 22.0));
        let table = report.table();
        let at = |n: usize, c: char| table.lines().nth(n).unwrap().find(c);
        assert_eq!(at(2, '1'), at(3, '2'));
    }
}
