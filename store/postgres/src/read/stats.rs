//! Adds up stats windows: those in the database, and those that are only in memory yet.

use super::Reader;
use crate::convert::{column, ms};
use crate::link::failed;
use crate::write::{read_window_key, window_key};
use stormhook_store::backend::read;
use stormhook_store::stats::{ALL_ENDPOINTS, Counters, Span, Window};
use stormhook_store::{Slot, StatsOf, StoreError, UnixMs};
use tokio_postgres::types::Type;

impl Reader {
    /// Returns the counts of a span of time that ends now.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn stats(&self, span: Span, now: UnixMs, of: &StatsOf) -> Result<Window, StoreError> {
        let (level, first, last) = span.windows(now);
        let (slots, of_all): (Vec<Slot>, bool) = match of {
            StatsOf::All => (vec![ALL_ENDPOINTS], true),
            StatsOf::Endpoints(slots) => (slots.clone(), false),
        };
        let mut sum = Window::default();
        let mut counters = Counters::default();
        {
            let memory = self.shared.memory();
            for ((minute, slot), window) in &memory.windows {
                let at = level.start_of(*minute);
                if at >= first && at <= last && slots.contains(slot) {
                    sum.merge(window);
                }
            }
            for ((_, _), current) in memory.counters.range((level, first)..=(level, last)) {
                counters.add(current);
            }
        }
        let link = self.link().await?;
        let sql = "SELECT level, start_ms, slot, record FROM @.windows \
                   WHERE level = $1 AND start_ms >= $2 AND start_ms <= $3 AND slot = ANY($4)";
        let types = [Type::INT2, Type::INT8, Type::INT8, Type::INT8_ARRAY];
        let statement = link.prepare(sql, &types).await?;
        let byte = i16::from(level.byte());
        let asked: Vec<i64> = slots.iter().map(|slot| i64::from(slot.0)).collect();
        let (first, last) = (ms(first), ms(last));
        let rows = link
            .client
            .query(&statement, &[&byte, &first, &last, &asked])
            .await;
        for row in rows.map_err(|e| failed(&e))? {
            let key = window_key(read_window_key(&row)?);
            sum.merge(&read("windows", &key, column(&row, 3)?)?);
        }
        if of_all {
            // Those in memory are not in the table: it has only past windows.
            let sql = "SELECT level, start_ms, 4294967295::int8, record FROM @.counters \
                       WHERE level = $1 AND start_ms >= $2 AND start_ms <= $3";
            let types = [Type::INT2, Type::INT8, Type::INT8];
            let statement = link.prepare(sql, &types).await?;
            let rows = link.client.query(&statement, &[&byte, &first, &last]).await;
            for row in rows.map_err(|e| failed(&e))? {
                let key = window_key(read_window_key(&row)?);
                counters.add(&read("counters", &key, column(&row, 3)?)?);
            }
            sum.counters = counters;
        }
        Ok(sum)
    }
}
