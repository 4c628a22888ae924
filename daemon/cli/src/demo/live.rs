//! The demo while it runs: a table that is redrawn on a terminal, otherwise one line per change.

use super::ledger::Place;
use super::{Books, SHOPS, board, names, subscribed};
use crate::failure::Failure;
use crate::table::counted;
use crate::terminal::Screen;

/// How many rows may still change when lines are printed.
const LINES_LOOKED_AT: usize = 200;

/// The live table: redrawn in place on a terminal, otherwise one line per change.
pub(super) struct Live {
    screen: Screen,
    books: Books,
    drawn_lines: usize,
    told: Vec<(String, Place, u32)>,
}

impl Live {
    /// Returns one with nothing drawn yet.
    pub(super) fn new(screen: Screen, books: Books) -> Self {
        Self {
            screen,
            books,
            drawn_lines: 0,
            told: Vec::new(),
        }
    }

    /// Shows the current state.
    pub(super) fn draw(&mut self) -> Result<(), Failure> {
        if !self.screen.terminal {
            return self.tell();
        }
        let (rows, events) = {
            let books = self.books.lock();
            (
                books.newest(board::LIVE_ROWS, SHOPS.len(), subscribed),
                books.events(),
            )
        };
        let text = format!(
            "{}\n\n{} accepted. Press Ctrl-C to stop the demo.",
            board::live(&rows, &names(), self.screen.colour),
            counted(events, "event", "events")
        );
        // Up over the previous output, then clear to the end of the screen (ECMA-48).
        let up = if self.drawn_lines > 0 {
            format!("\u{1b}[{}A\r\u{1b}[J", self.drawn_lines)
        } else {
            String::new()
        };
        self.drawn_lines = text.lines().count();
        // Without wrapping (DECAWM) a line stays one row on a narrow terminal, so that moving up returns to the start.
        let before = format!("{up}\u{1b}[?7l");
        self.screen.draw(&before, &text, "\u{1b}[?7h")
    }

    /// Prints each request once, in the order of the events; finished rows are forgotten.
    fn tell(&mut self) -> Result<(), Failure> {
        let rows = self
            .books
            .lock()
            .newest(LINES_LOOKED_AT, SHOPS.len(), subscribed);
        for row in rows.iter().filter(|row| row.entry.requests > 0) {
            let news = (row.event.clone(), row.place, row.entry.requests);
            if !self.told.contains(&news) {
                self.screen
                    .line(&board::line(row, &names(), self.screen.colour))?;
                self.told.push(news);
            }
        }
        let excess = self.told.len().saturating_sub(4 * LINES_LOOKED_AT);
        self.told.drain(..excess);
        Ok(())
    }
}
