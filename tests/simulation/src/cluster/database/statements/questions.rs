//! What a daemon reads when it starts, when it takes shards over, and in a pass of the sweep.

use super::super::tables::Tables;
use super::{Answer, Arguments, Refused, Statement, nothing, row};
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(super) const ALL: &[Statement] = &[
    Statement {
        sql: "SELECT c.relname::text FROM pg_inherits i \
                   JOIN pg_class c ON c.oid = i.inhrelid \
                   JOIN pg_class p ON p.oid = i.inhparent \
                   JOIN pg_namespace n ON n.oid = p.relnamespace \
                   WHERE n.nspname = $1 AND p.relname = $2",
        takes: &[Type::TEXT, Type::TEXT],
        gives: &[Type::TEXT],
        locks: nothing,
        run: |tables, given| {
            let table: String = given.get(2);
            let days = tables.days.iter().map(|day| row![format!("{table}_{day}")]);
            Ok(Answer::Rows(days.collect()))
        },
    },
    Statement {
        sql: "SELECT shard FROM @.shards WHERE owner = $1 AND rests_until <= now()",
        takes: &[Type::INT2],
        gives: &[Type::INT2],
        locks: nothing,
        run: |tables, given| {
            let owner = Some(given.get(1));
            let own = tables.shards.iter();
            let own = own.filter(|(_, s)| s.owner == owner && s.rests_until_ms <= given.now_ms);
            Ok(Answer::Rows(own.map(|(shard, _)| row![*shard]).collect()))
        },
    },
    Statement {
        sql: "SELECT s.shard, CASE WHEN s.adopted THEN greatest(s.states_upto, l.states_upto) ELSE s.states_upto END, \
                 greatest(extract(epoch FROM s.rests_until - now()), 0)::float8 \
               FROM @.shards s JOIN @.lanes l ON l.lane = s.owner WHERE s.owner = $1 AND s.shard = ANY($2)",
        takes: &[Type::INT2, Type::INT2_ARRAY],
        gives: &[Type::INT2, Type::UUID, Type::FLOAT8],
        locks: nothing,
        run: own_shards,
    },
    Statement {
        sql: "SELECT last_event, last_stamp, next_bulk, paced_ms, swept_before_ms, deliveries_swept_before_ms FROM @.lanes",
        takes: &[],
        gives: &[
            Type::UUID,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
        ],
        locks: nothing,
        run: |tables, _| {
            let lanes = tables.lanes.values().map(|lane| {
                row![
                    lane.last_event,
                    lane.last_stamp,
                    lane.next_bulk,
                    lane.paced_ms,
                    lane.swept_before_ms,
                    lane.deliveries_swept_before_ms
                ]
            });
            Ok(Answer::Rows(lanes.collect()))
        },
    },
    Statement {
        sql: "SELECT slot, record FROM @.endpoints WHERE shard = ANY($1) ORDER BY slot",
        takes: &[Type::INT2_ARRAY],
        gives: &[Type::INT4, Type::BYTEA],
        locks: nothing,
        run: |tables, given| {
            let slots = tables.endpoints_of(&given.get::<Vec<i16>>(1));
            let rows = slots.iter();
            let rows = rows.map(|slot| row![*slot, tables.endpoints[slot].record.clone()]);
            Ok(Answer::Rows(rows.collect()))
        },
    },
    Statement {
        sql: "SELECT s.slot, s.last_sequence, s.failure_count, s.failing_since_ms, s.last_success_at_ms \
               FROM @.endpoint_states s JOIN @.endpoints e ON e.slot = s.slot WHERE e.shard = ANY($1)",
        takes: &[Type::INT2_ARRAY],
        gives: &[Type::INT4, Type::INT8, Type::INT4, Type::INT8, Type::INT8],
        locks: nothing,
        run: |tables, given| {
            let slots = tables.endpoints_of(&given.get::<Vec<i16>>(1));
            let rows = tables
                .states
                .iter()
                .filter(|(slot, _)| slots.contains(slot));
            let rows = rows.map(|(slot, state)| {
                row![
                    *slot,
                    state.last_sequence,
                    state.failure_count,
                    state.failing_since_ms,
                    state.last_success_at_ms
                ]
            });
            Ok(Answer::Rows(rows.collect()))
        },
    },
    Statement {
        // No bulk change is begun here.
        sql: "SELECT b.slot, b.number, b.record FROM @.bulk b JOIN @.endpoints e ON e.slot = b.slot \
               WHERE e.shard = ANY($1) ORDER BY b.slot, b.number",
        takes: &[Type::INT2_ARRAY],
        gives: &[Type::INT4, Type::INT8, Type::BYTEA],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(Vec::new())),
    },
    Statement {
        // Nobody purges here.
        sql: "SELECT organization, number, record FROM @.purges WHERE shard = ANY($1) ORDER BY number",
        takes: &[Type::INT2_ARRAY],
        gives: &[Type::TEXT, Type::INT8, Type::BYTEA],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(Vec::new())),
    },
    Statement {
        sql: "SELECT id, targets FROM @.events WHERE id > $1",
        takes: &[Type::UUID],
        gives: &[Type::UUID, Type::BYTEA],
        locks: nothing,
        run: |tables, given| {
            let from: Uuid = given.get(1);
            let rows = tables.events.iter().filter(|(id, _)| **id > from);
            let rows = rows.map(|(id, event)| row![*id, event.targets.clone()]);
            Ok(Answer::Rows(rows.collect()))
        },
    },
    Statement {
        sql: "SELECT o.event, o.slot, o.record FROM @.open o JOIN @.endpoints e ON e.slot = o.slot \
               WHERE e.shard = ANY($1) ORDER BY o.due_ms, o.event, o.slot",
        takes: &[Type::INT2_ARRAY],
        gives: &[Type::UUID, Type::INT4, Type::BYTEA],
        locks: nothing,
        run: waiting,
    },
    Statement {
        sql: "SELECT count(*) FROM @.open o JOIN @.endpoints e ON e.slot = o.slot WHERE e.shard = ANY($1)",
        takes: &[Type::INT2_ARRAY],
        gives: &[Type::INT8],
        locks: nothing,
        run: |tables, given| {
            let slots = tables.endpoints_of(&given.get::<Vec<i16>>(1));
            let open = tables.open.iter();
            let open = open.filter(|((slot, _), _)| slots.contains(slot));
            let open = i64::try_from(open.count()).unwrap();
            Ok(Answer::Rows(vec![row![open]]))
        },
    },
    Statement {
        sql: "SELECT w.level, w.start_ms, w.slot, w.record \
               FROM unnest($1::int2[], $2::int8[], $3::int8[]) n(level, start_ms, slot) \
               JOIN @.windows w ON w.level = n.level AND w.start_ms = n.start_ms AND w.slot = n.slot",
        takes: &[Type::INT2_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY],
        gives: &[Type::INT2, Type::INT8, Type::INT8, Type::BYTEA],
        locks: nothing,
        run: |tables, given| {
            let (levels, starts): (Vec<i16>, Vec<i64>) = (given.get(1), given.get(2));
            let slots: Vec<i64> = given.get(3);
            let keys = levels.into_iter().zip(starts).zip(slots);
            let found = keys.filter_map(|((level, start), slot)| {
                let record = tables.windows.get(&(level, start, slot))?;
                Some(row![level, start, slot, record.clone()])
            });
            Ok(Answer::Rows(found.collect()))
        },
    },
    Statement {
        sql: "SELECT shard FROM @.shards WHERE owner = $1",
        takes: &[Type::INT2],
        gives: &[Type::INT2],
        locks: nothing,
        run: |tables, given| {
            let owner = Some(given.get(1));
            let own = tables.shards.iter().filter(|(_, s)| s.owner == owner);
            Ok(Answer::Rows(own.map(|(shard, _)| row![*shard]).collect()))
        },
    },
    Statement {
        // Runs are shorter than any retention: nothing is past it.
        sql: "SELECT min(l.swept_before_ms), min(l.deliveries_swept_before_ms) \
             FROM @.lanes l JOIN @.seats s ON s.seat = l.lane WHERE NOT s.fenced",
        takes: &[],
        gives: &[Type::INT8, Type::INT8],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(vec![row![0i64, 0i64]])),
    },
    Statement {
        sql: "DELETE FROM @.windows WHERE level = $1 AND start_ms < $2",
        takes: &[Type::INT2, Type::INT8],
        gives: &[],
        locks: nothing,
        run: |_, _| Ok(Answer::Changed(0)),
    },
    Statement {
        sql: "DELETE FROM @.counters WHERE level = $1 AND start_ms < $2",
        takes: &[Type::INT2, Type::INT8],
        gives: &[],
        locks: nothing,
        run: |_, _| Ok(Answer::Changed(0)),
    },
    Statement {
        sql: "DELETE FROM @.revisions r WHERE EXISTS (SELECT FROM @.revisions later \
                     WHERE later.slot = r.slot AND later.from_event > r.from_event AND later.from_event <= $1)",
        takes: &[Type::UUID],
        gives: &[],
        locks: nothing,
        run: |_, _| Ok(Answer::Changed(0)),
    },
];

fn own_shards(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let (owner, asked): (i16, Vec<i16>) = (given.get(1), given.get(2));
    let lane = tables.lanes.get(&owner);
    let lane_upto = lane.map(|lane| lane.states_upto).unwrap_or_default();
    let own = tables.shards.iter();
    let own = own.filter(|(shard, s)| s.owner == Some(owner) && asked.contains(shard));
    let rows = own.map(|(shard, s)| {
        let upto = if s.adopted {
            s.states_upto.max(lane_upto)
        } else {
            s.states_upto
        };
        let rests_s = (s.rests_until_ms - given.now_ms).max(0.0) / 1_000.0;
        row![*shard, upto, rests_s]
    });
    Ok(Answer::Rows(rows.collect()))
}

fn waiting(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let slots = tables.endpoints_of(&given.get::<Vec<i16>>(1));
    let open = tables.open.iter();
    let open = open.filter(|((slot, _), _)| slots.contains(slot));
    let mut open: Vec<_> = open.collect();
    open.sort_by_key(|((slot, _), open)| (open.due_ms, open.event, *slot));
    let rows = open.into_iter();
    let rows = rows.map(|((slot, _), o)| row![o.event, *slot, o.record.clone()]);
    Ok(Answer::Rows(rows.collect()))
}
