//! Adds up stats windows: those in the database, and those that are only in memory yet.

use super::Reader;
use crate::convert::{column, ms};
use crate::link::{Link, failed};
use crate::load::read_counters;
use crate::write::{read_window_key, window_key};
use stormhook_store::backend::read;
use stormhook_store::stats::{ALL_ENDPOINTS, Counters, Level, Span, Window};
use stormhook_store::{Slot, StatsOf, StoreError, UnixMs};
use tokio_postgres::types::Type;

impl Reader {
    /// Returns the counts of a span of time that ends now, and how many rows of it are damaged: a damaged row is an
    /// error here.
    ///
    /// # Errors
    /// As [`Reader::event`].
    pub async fn stats_and_damage(
        &self,
        span: Span,
        now: UnixMs,
        of: &StatsOf,
    ) -> Result<(Window, u64), StoreError> {
        Ok((self.stats(span, now, of).await?, 0))
    }

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
                   WHERE level = $1 AND start_ms >= $2 AND start_ms <= $3 AND (slot = ANY($4) OR slot < $5)";
        let types = [
            Type::INT2,
            Type::INT8,
            Type::INT8,
            Type::INT8_ARRAY,
            Type::INT8,
        ];
        let statement = link.prepare(sql, &types).await?;
        let byte = i16::from(level.byte());
        let asked: Vec<i64> = if of_all {
            Vec::new()
        } else {
            slots.iter().map(|slot| i64::from(slot.0)).collect()
        };
        let (from, until) = (first, last);
        let (first, last) = (ms(first), ms(last));
        // Those of all endpoints have negative numbers, one for each lane.
        let of_lanes = if of_all { 0_i64 } else { i64::MIN };
        let rows = link
            .client
            .query(&statement, &[&byte, &first, &last, &asked, &of_lanes])
            .await;
        for row in rows.map_err(|e| failed(&e))? {
            let key = window_key(read_window_key(&row)?);
            sum.merge(&read("windows", &key, column(&row, 3)?)?);
        }
        if of_all {
            self.add_counters(&link, level, (from, until), &mut counters)
                .await?;
            sum.counters = counters;
        }
        Ok(sum)
    }

    /// Adds the counters of all lanes, but those that are in memory.
    async fn add_counters(
        &self,
        link: &Link,
        level: Level,
        (from, until): (UnixMs, UnixMs),
        counters: &mut Counters,
    ) -> Result<(), StoreError> {
        let byte = i16::from(level.byte());
        let (first, last) = (ms(from), ms(until));
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
        // What the other lanes count now.
        let sql = "SELECT counters FROM @.lanes WHERE lane <> $1";
        let statement = link.prepare(sql, &[Type::INT2]).await?;
        let rows = link.client.query(&statement, &[&self.shared.lane]).await;
        for row in rows.map_err(|e| failed(&e))? {
            let current = read_counters(column(&row, 0)?)?;
            for (_, current) in current.range((level, from)..=(level, until)) {
                counters.add(current);
            }
        }
        Ok(())
    }
}
