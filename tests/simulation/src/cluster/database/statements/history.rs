//! Events and deliveries: what a commit writes of them, and the rows that a batch fetches.

use super::super::tables::{Event, Open, Tables};
use super::{Answer, Arguments, Refused, Statement, nothing, row};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

pub(super) const ALL: &[Statement] = &[
    Statement {
        sql: "INSERT INTO @.events (occurred_ms, id, occurred_text, deliveries, organization, type, key, targets, data) \
                   SELECT * FROM unnest($1::int8[], $2::uuid[], $3::int8[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[])",
        takes: &[
            Type::INT8_ARRAY,
            Type::UUID_ARRAY,
            Type::INT8_ARRAY,
            Type::INT4_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::BYTEA_ARRAY,
            Type::BYTEA_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: insert_events,
    },
    Statement {
        sql: "INSERT INTO @.keys (day, fingerprint, id) SELECT * FROM unnest($1::int4[], $2::uuid[], $3::uuid[]) \
                   ON CONFLICT (day, fingerprint) DO UPDATE SET id = excluded.id",
        takes: &[Type::INT4_ARRAY, Type::UUID_ARRAY, Type::UUID_ARRAY],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let (days, keys): (Vec<i32>, Vec<Uuid>) = (given.get(1), given.get(2));
            let ids: Vec<Uuid> = given.get(3);
            for (at, id) in ids.iter().enumerate() {
                let of = (days[at], keys[at]);
                Arc::make_mut(&mut tables.keys).insert(of, *id);
            }
            Ok(Answer::Changed(ids.len()))
        },
    },
    Statement {
        sql: "DELETE FROM @.open o USING unnest($1::int4[], $2::int8[]) n(slot, sequence) \
                   WHERE o.slot = n.slot AND o.sequence = n.sequence",
        takes: &[Type::INT4_ARRAY, Type::INT8_ARRAY],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let (slots, sequences): (Vec<i32>, Vec<i64>) = (given.get(1), given.get(2));
            let open = &mut tables.open;
            let of = slots.into_iter().zip(sequences);
            let gone = of.filter(|of| open.remove(of).is_some()).count();
            Ok(Answer::Changed(gone))
        },
    },
    Statement {
        sql: "INSERT INTO @.open (sequence, due_ms, event, slot, record) \
                   SELECT * FROM unnest($1::int8[], $2::int8[], $3::uuid[], $4::int4[], $5::bytea[]) \
                   ON CONFLICT (slot, sequence) DO UPDATE SET due_ms = excluded.due_ms, record = excluded.record",
        takes: &[
            Type::INT8_ARRAY,
            Type::INT8_ARRAY,
            Type::UUID_ARRAY,
            Type::INT4_ARRAY,
            Type::BYTEA_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: upsert_open,
    },
    Statement {
        sql: "INSERT INTO @.done (sequence, event, slot, undelivered, record) \
    SELECT * FROM unnest($1::int8[], $2::uuid[], $3::int4[], $4::bool[], $5::bytea[])",
        takes: &[
            Type::INT8_ARRAY,
            Type::UUID_ARRAY,
            Type::INT4_ARRAY,
            Type::BOOL_ARRAY,
            Type::BYTEA_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: insert_done,
    },
    Statement {
        sql: "UPDATE @.done d SET undelivered = n.undelivered, record = n.record \
    FROM unnest($1::int8[], $2::uuid[], $3::int4[], $4::bool[], $5::bytea[]) n(sequence, event, slot, undelivered, record) \
    WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event",
        takes: &[
            Type::INT8_ARRAY,
            Type::UUID_ARRAY,
            Type::INT4_ARRAY,
            Type::BOOL_ARRAY,
            Type::BYTEA_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: update_done,
    },
    Statement {
        sql: "SELECT o.* FROM unnest($1::uuid[], $2::int4[]) n(event, slot) \
    CROSS JOIN LATERAL (SELECT event, slot, record FROM @.open o WHERE o.event = n.event AND o.slot = n.slot LIMIT 1) o",
        takes: &[Type::UUID_ARRAY, Type::INT4_ARRAY],
        gives: &[Type::UUID, Type::INT4, Type::BYTEA],
        locks: nothing,
        run: |tables, given| {
            let (events, slots): (Vec<Uuid>, Vec<i32>) = (given.get(1), given.get(2));
            let asked: Vec<(Uuid, i32)> = events.into_iter().zip(slots).collect();
            let open = tables.open.iter();
            let open = open.filter(|((slot, _), open)| asked.contains(&(open.event, *slot)));
            let rows = open.map(|((slot, _), o)| row![o.event, *slot, o.record.clone()]);
            Ok(Answer::Rows(rows.collect()))
        },
    },
    Statement {
        sql: "SELECT e.* FROM unnest($1::uuid[]) n(id) \
    CROSS JOIN LATERAL (SELECT id, targets FROM @.events e WHERE e.id = n.id LIMIT 1) e",
        takes: &[Type::UUID_ARRAY],
        gives: &[Type::UUID, Type::BYTEA],
        locks: nothing,
        run: |tables, given| {
            let of = |id: Uuid| {
                let event = tables.events.get(&id)?;
                Some(row![id, event.targets.clone()])
            };
            let ids: Vec<Uuid> = given.get(1);
            Ok(Answer::Rows(ids.into_iter().filter_map(of).collect()))
        },
    },
    Statement {
        sql: "WITH n AS (SELECT * FROM unnest($1::int4[], $2::int8[], $3::uuid[]) n(slot, sequence, event)) \
    SELECT o.* FROM n CROSS JOIN LATERAL ( \
      SELECT event, slot, record FROM @.open o WHERE o.slot = n.slot AND o.sequence = n.sequence LIMIT 1) o \
    UNION ALL SELECT d.* FROM n CROSS JOIN LATERAL ( \
      SELECT event, slot, record FROM @.done d \
      WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event LIMIT 1) d",
        takes: &[Type::INT4_ARRAY, Type::INT8_ARRAY, Type::UUID_ARRAY],
        gives: &[Type::UUID, Type::INT4, Type::BYTEA],
        locks: nothing,
        run: by_number,
    },
    Statement {
        sql: "WITH n AS (SELECT * FROM unnest($1::int4[], $2::int8[], $3::uuid[]) n(slot, sequence, event)) \
    SELECT n.event, n.slot FROM n CROSS JOIN LATERAL ( \
      SELECT FROM @.open o WHERE o.slot = n.slot AND o.sequence = n.sequence LIMIT 1) o \
    UNION ALL SELECT n.event, n.slot FROM n CROSS JOIN LATERAL ( \
      SELECT FROM @.done d WHERE d.slot = n.slot AND d.sequence = n.sequence AND d.event = n.event LIMIT 1) d",
        takes: &[Type::INT4_ARRAY, Type::INT8_ARRAY, Type::UUID_ARRAY],
        gives: &[Type::UUID, Type::INT4],
        locks: nothing,
        run: with_row,
    },
    Statement {
        sql: "SELECT e.* FROM unnest($1::uuid[]) n(id) CROSS JOIN LATERAL (SELECT \
               e.id, e.organization, e.type, e.occurred_ms, e.occurred_text, e.key, e.deliveries, e.data \
               FROM @.events e WHERE e.id = n.id LIMIT 1) e",
        takes: &[Type::UUID_ARRAY],
        gives: EVENT,
        locks: nothing,
        run: |tables, given| {
            let ids: Vec<Uuid> = given.get(1);
            let found = ids.into_iter();
            let found = found.filter_map(|id| Some(event(id, tables.events.get(&id)?)));
            Ok(Answer::Rows(found.collect()))
        },
    },
    Statement {
        sql: "SELECT e.id, e.organization, e.type, e.occurred_ms, e.occurred_text, e.key, e.deliveries, e.data, \
               e.targets FROM @.events e WHERE e.id = $1",
        takes: &[Type::UUID],
        gives: &[
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::INT8,
            Type::INT8,
            Type::TEXT,
            Type::INT4,
            Type::BYTEA,
            Type::BYTEA,
        ],
        locks: nothing,
        run: |tables, given| {
            let id: Uuid = given.get(1);
            let found = tables.events.get(&id).map(|found| {
                let mut row = event(id, found);
                row.push(Box::new(found.targets.clone()));
                row
            });
            Ok(Answer::Rows(found.into_iter().collect()))
        },
    },
    Statement {
        sql: "SELECT n.fingerprint, k.id FROM unnest($1::int4[], $2::uuid[]) n(day, fingerprint) \
    CROSS JOIN LATERAL (SELECT id FROM @.keys k WHERE k.day = n.day AND k.fingerprint = n.fingerprint LIMIT 1) k \
    ORDER BY n.day",
        takes: &[Type::INT4_ARRAY, Type::UUID_ARRAY],
        gives: &[Type::UUID, Type::UUID],
        locks: nothing,
        run: |tables, given| {
            let (days, keys): (Vec<i32>, Vec<Uuid>) = (given.get(1), given.get(2));
            let asked: BTreeSet<(i32, Uuid)> = days.into_iter().zip(keys).collect();
            let found = asked
                .iter()
                .filter_map(|of| Some((of.1, tables.keys.get(of)?)));
            let rows = found.map(|(key, id)| row![key, *id]);
            Ok(Answer::Rows(rows.collect()))
        },
    },
];

const EVENT: &[Type] = &[
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::INT8,
    Type::INT8,
    Type::TEXT,
    Type::INT4,
    Type::BYTEA,
];

fn event(id: Uuid, event: &Event) -> Vec<Box<dyn ToSql>> {
    row![
        id,
        event.organization.clone(),
        event.event_type.clone(),
        event.occurred_ms,
        event.occurred_text,
        event.key.clone(),
        event.deliveries,
        event.data.clone()
    ]
}

fn insert_events(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (occurred, ids): (Vec<i64>, Vec<Uuid>) = (given.get(1), given.get(2));
    let (texts, deliveries): (Vec<Option<i64>>, Vec<i32>) = (given.get(3), given.get(4));
    let (organizations, types): (Vec<String>, Vec<String>) = (given.get(5), given.get(6));
    let (keys, targets): (Vec<Option<String>>, Vec<Vec<u8>>) = (given.get(7), given.get(8));
    let data: Vec<Option<Vec<u8>>> = given.get(9);
    for (at, id) in ids.iter().enumerate() {
        let event = Event {
            occurred_ms: occurred[at],
            occurred_text: texts[at],
            deliveries: deliveries[at],
            organization: organizations[at].clone(),
            event_type: types[at].clone(),
            key: keys[at].clone(),
            targets: targets[at].clone(),
            data: data[at].clone(),
        };
        if tables.events.insert(*id, Arc::new(event)).is_some() {
            return Err(unique(format!("events {id}")));
        }
    }
    Ok(Answer::Changed(ids.len()))
}

fn upsert_open(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (sequences, due): (Vec<i64>, Vec<i64>) = (given.get(1), given.get(2));
    let (events, slots): (Vec<Uuid>, Vec<i32>) = (given.get(3), given.get(4));
    let records: Vec<Vec<u8>> = given.get(5);
    let count = records.len();
    for (at, record) in records.into_iter().enumerate() {
        let key = (slots[at], sequences[at]);
        // The event of a row that is there stays.
        let event = tables.open.get(&key).map_or(events[at], |row| row.event);
        let row = Open {
            due_ms: due[at],
            event,
            record,
        };
        tables.open.insert(key, row);
    }
    Ok(Answer::Changed(count))
}

fn insert_done(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (sequences, events): (Vec<i64>, Vec<Uuid>) = (given.get(1), given.get(2));
    let (slots, records): (Vec<i32>, Vec<Vec<u8>>) = (given.get(3), given.get(5));
    let count = records.len();
    for (at, record) in records.into_iter().enumerate() {
        let key = (slots[at], sequences[at], events[at]);
        // The key of a partition is the first two.
        let same = |other: &(i32, i64, Uuid)| (other.0, other.1) == (key.0, key.1);
        if tables.done.beside(&key).any(same) {
            return Err(unique(format!("done {key:?}")));
        }
        tables.done.insert(key, record);
    }
    Ok(Answer::Changed(count))
}

fn update_done(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (sequences, events): (Vec<i64>, Vec<Uuid>) = (given.get(1), given.get(2));
    let (slots, records): (Vec<i32>, Vec<Vec<u8>>) = (given.get(3), given.get(5));
    let mut changed = 0;
    for (at, record) in records.into_iter().enumerate() {
        let key = (slots[at], sequences[at], events[at]);
        if tables.done.get(&key).is_some() {
            tables.done.insert(key, record);
            changed += 1;
        }
    }
    Ok(Answer::Changed(changed))
}

fn by_number(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (slots, sequences): (Vec<i32>, Vec<i64>) = (given.get(1), given.get(2));
    let events: Vec<Uuid> = given.get(3);
    let mut rows: BTreeMap<usize, Vec<Box<dyn ToSql>>> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        let (slot, sequence) = (slots[at], sequences[at]);
        if let Some(open) = tables.open.get(&(slot, sequence)) {
            rows.insert(at, row![open.event, slot, open.record.clone()]);
        }
        if let Some(record) = tables.done.get(&(slot, sequence, *event)) {
            rows.insert(at + events.len(), row![*event, slot, record.clone()]);
        }
    }
    Ok(Answer::Rows(rows.into_values().collect()))
}

fn with_row(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (slots, sequences): (Vec<i32>, Vec<i64>) = (given.get(1), given.get(2));
    let events: Vec<Uuid> = given.get(3);
    let mut rows = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let (slot, sequence) = (slots[at], sequences[at]);
        if tables.open.get(&(slot, sequence)).is_some() {
            rows.push(row![*event, slot]);
        }
        if tables.done.get(&(slot, sequence, *event)).is_some() {
            rows.push(row![*event, slot]);
        }
    }
    Ok(Answer::Rows(rows))
}

fn unique(what: String) -> Refused {
    Refused::new("23505", format!("duplicate key: {what}"))
}
