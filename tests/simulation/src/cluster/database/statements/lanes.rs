//! A lane's commits: the fence, shards, endpoints and statistics (`store/postgres/src/write/`, `store/postgres/src/store/`).

use super::super::tables::{Endpoint, Lane, State, Tables};
use super::{Answer, Arguments, Key, Refused, Statement, nothing, row};
use std::sync::Arc;
use tokio_postgres::types::Type;

pub(super) const ALL: &[Statement] = &[
    Statement {
        sql: "WITH fence AS (UPDATE @.lanes SET commit_no = $2, last_event = $3, last_stamp = $4, \
                 next_bulk = $5, paced_ms = $6, states_upto = $7, counters = $8, \
                 swept_before_ms = greatest(swept_before_ms, $10), \
                 deliveries_swept_before_ms = greatest(deliveries_swept_before_ms, $11) \
               WHERE lane = $9 AND incarnation = $1 AND commit_no = $2 - 1 RETURNING 1) \
               SELECT 1 / (SELECT count(*) FROM fence)",
        takes: &[
            Type::INT8,
            Type::INT8,
            Type::UUID,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::UUID,
            Type::BYTEA,
            Type::INT2,
            Type::INT8,
            Type::INT8,
        ],
        gives: &[Type::INT8],
        locks: |_, given| vec![Key::Lane(given.get(9))],
        run: fence,
    },
    Statement {
        sql: "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = $2 AND incarnation = $1 \
             RETURNING commit_no, incarnation",
        takes: &[Type::INT8, Type::INT2],
        gives: &[Type::INT8, Type::INT8],
        locks: |_, given| vec![Key::Lane(given.get(2))],
        run: |tables, given| {
            let incarnation: i64 = given.get(1);
            let lane = tables.lanes.get_mut(&given.get(2)).expect("a lane");
            if lane.incarnation != incarnation {
                return Ok(Answer::Rows(Vec::new()));
            }
            lane.incarnation += 1;
            Ok(Answer::Rows(vec![row![lane.commit_no, lane.incarnation]]))
        },
    },
    Statement {
        sql: "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = $1 \
         RETURNING incarnation, commit_no, last_event, last_stamp, next_bulk, paced_ms, \
                   swept_before_ms, deliveries_swept_before_ms, states_upto, counters",
        takes: &[Type::INT2],
        gives: &[
            Type::INT8,
            Type::INT8,
            Type::UUID,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::INT8,
            Type::UUID,
            Type::BYTEA,
        ],
        locks: |_, given| vec![Key::Lane(given.get(1))],
        run: take_over,
    },
    Statement {
        sql: "UPDATE @.shards SET states_upto = greatest(states_upto, $2), adopted = false WHERE owner = $1 AND adopted",
        takes: &[Type::INT2, Type::UUID],
        gives: &[],
        locks: |tables, given| {
            let owner = Some(given.get(1));
            let owned = tables.shards.iter();
            let owned = owned.filter(|(_, s)| s.owner == owner && s.adopted);
            owned.map(|(shard, _)| Key::Shard(*shard)).collect()
        },
        run: |tables, given| {
            let owner = Some(given.get(1));
            let owned = tables.shards_mut().values_mut();
            let owned = owned.filter(|s| s.owner == owner && s.adopted);
            let changed = owned.map(|shard| {
                shard.states_upto = shard.states_upto.max(given.get(2));
                shard.adopted = false;
            });
            Ok(Answer::Changed(changed.count()))
        },
    },
    Statement {
        sql: "UPDATE @.shards SET states_upto = $3, adopted = true WHERE owner = $1 AND shard = ANY($2)",
        takes: &[Type::INT2, Type::INT2_ARRAY, Type::UUID],
        gives: &[],
        locks: these_shards,
        run: |tables, given| move_shards(tables, given, true),
    },
    Statement {
        sql: "UPDATE @.shards SET states_upto = $3, owner = NULL, adopted = false \
                   WHERE owner = $1 AND shard = ANY($2)",
        takes: &[Type::INT2, Type::INT2_ARRAY, Type::UUID],
        gives: &[],
        locks: these_shards,
        run: |tables, given| move_shards(tables, given, false),
    },
    Statement {
        sql: "INSERT INTO @.endpoints (slot, id, organization, url, active, deleted, record, shard, secrets_form) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                   ON CONFLICT (slot) DO UPDATE SET url = excluded.url, active = excluded.active, deleted = excluded.deleted, \
                     record = excluded.record, secrets_form = excluded.secrets_form",
        takes: &[
            Type::INT4,
            Type::UUID,
            Type::TEXT,
            Type::TEXT,
            Type::BOOL,
            Type::BOOL,
            Type::BYTEA,
            Type::INT2,
            Type::TEXT,
        ],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let (shard, record) = (given.get(8), given.get(7));
            let endpoint = Endpoint {
                shard,
                organization: given.get(3),
                record,
            };
            tables.endpoints.insert(given.get(1), endpoint);
            Ok(Answer::Changed(1))
        },
    },
    Statement {
        sql: "INSERT INTO @.revisions (slot, from_event, record) VALUES ($1, $2, $3) \
                   ON CONFLICT (slot, from_event) DO UPDATE SET record = excluded.record",
        takes: &[Type::INT4, Type::UUID, Type::BYTEA],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let key = (given.get(1), given.get(2));
            tables.revisions.insert(key, given.get(3));
            Ok(Answer::Changed(1))
        },
    },
    Statement {
        sql: "INSERT INTO @.endpoint_states (slot, last_sequence, failure_count, failing_since_ms, last_success_at_ms) \
                   SELECT * FROM unnest($1::int4[], $2::int8[], $3::int4[], $4::int8[], $5::int8[]) \
                   ON CONFLICT (slot) DO UPDATE SET last_sequence = excluded.last_sequence, failure_count = excluded.failure_count, \
                     failing_since_ms = excluded.failing_since_ms, last_success_at_ms = excluded.last_success_at_ms",
        takes: &[
            Type::INT4_ARRAY,
            Type::INT8_ARRAY,
            Type::INT4_ARRAY,
            Type::INT8_ARRAY,
            Type::INT8_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: states,
    },
    Statement {
        sql: "INSERT INTO @.counters (level, start_ms, lane, record) VALUES ($1, $2, $4, $3) \
                   ON CONFLICT (level, start_ms, lane) DO UPDATE SET record = excluded.record",
        takes: &[Type::INT2, Type::INT8, Type::BYTEA, Type::INT2],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let key = (given.get(1), given.get(2), given.get(4));
            tables.counters.insert(key, given.get(3));
            Ok(Answer::Changed(1))
        },
    },
    Statement {
        sql: "INSERT INTO @.windows (level, start_ms, slot, record) \
                   SELECT * FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::bytea[]) \
                   ON CONFLICT (level, start_ms, slot) DO UPDATE SET record = excluded.record",
        takes: &[
            Type::INT2_ARRAY,
            Type::INT8_ARRAY,
            Type::INT8_ARRAY,
            Type::BYTEA_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let (levels, starts): (Vec<i16>, Vec<i64>) = (given.get(1), given.get(2));
            let (slots, records): (Vec<i64>, Vec<Vec<u8>>) = (given.get(3), given.get(4));
            let windows = Arc::make_mut(&mut tables.windows);
            let count = records.len();
            for (at, record) in records.into_iter().enumerate() {
                windows.insert((levels[at], starts[at], slots[at]), record);
            }
            Ok(Answer::Changed(count))
        },
    },
    Statement {
        sql: "UPDATE @.meta SET next_slot = $1 + 1 WHERE next_slot <= $1",
        takes: &[Type::INT4],
        gives: &[],
        locks: |_, _| vec![Key::Meta],
        run: |tables, given| {
            let next = given.get::<i32>(1) + 1;
            let is_behind = tables.next_slot < next;
            tables.next_slot = tables.next_slot.max(next);
            Ok(Answer::Changed(usize::from(is_behind)))
        },
    },
    Statement {
        sql: "UPDATE @.meta SET next_slot = next_slot + $1 RETURNING next_slot - $1",
        takes: &[Type::INT4],
        gives: &[Type::INT4],
        locks: |_, _| vec![Key::Meta],
        run: |tables, given| {
            let first = tables.next_slot;
            tables.next_slot += given.get::<i32>(1);
            Ok(Answer::Rows(vec![row![first]]))
        },
    },
];

fn these_shards(_: &Tables, given: &Arguments<'_>) -> Vec<Key> {
    let shards: Vec<i16> = given.get(2);
    shards.into_iter().map(Key::Shard).collect()
}

/// The owner has read shards, or gives them.
fn move_shards(
    tables: &mut Tables,
    given: &Arguments<'_>,
    adopted: bool,
) -> Result<Answer, Refused> {
    let mut changed = 0;
    let owner = Some(given.get(1));
    for number in given.get::<Vec<i16>>(2) {
        let shard = tables.shards_mut().get_mut(&number).expect("a shard");
        if shard.owner != owner {
            continue;
        }
        shard.states_upto = given.get(3);
        shard.adopted = adopted;
        if !adopted {
            shard.owner = None;
        }
        changed += 1;
    }
    Ok(Answer::Changed(changed))
}

fn fence(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let lane = tables.lanes.get_mut(&given.get(9)).expect("a lane");
    let (incarnation, commit_no): (i64, i64) = (given.get(1), given.get(2));
    if lane.incarnation != incarnation || lane.commit_no != commit_no - 1 {
        return Err(Refused::new("22012", "division by zero"));
    }
    *lane = Lane {
        incarnation,
        commit_no,
        last_event: given.get(3),
        last_stamp: given.get(4),
        next_bulk: given.get(5),
        paced_ms: given.get(6),
        states_upto: given.get(7),
        counters: given.get(8),
        swept_before_ms: lane.swept_before_ms.max(given.get(10)),
        deliveries_swept_before_ms: lane.deliveries_swept_before_ms.max(given.get(11)),
    };
    Ok(Answer::Rows(vec![row![1i64]]))
}

fn take_over(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let lane = tables.lanes.get_mut(&given.get(1)).expect("a lane");
    lane.incarnation += 1;
    let lane = lane.clone();
    Ok(Answer::Rows(vec![row![
        lane.incarnation,
        lane.commit_no,
        lane.last_event,
        lane.last_stamp,
        lane.next_bulk,
        lane.paced_ms,
        lane.swept_before_ms,
        lane.deliveries_swept_before_ms,
        lane.states_upto,
        lane.counters
    ]]))
}

fn states(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let slots: Vec<i32> = given.get(1);
    let (sequences, failures): (Vec<i64>, Vec<i32>) = (given.get(2), given.get(3));
    let (since, successes): (Vec<Option<i64>>, Vec<Option<i64>>) = (given.get(4), given.get(5));
    for (at, slot) in slots.iter().enumerate() {
        let state = State {
            last_sequence: sequences[at],
            failure_count: failures[at],
            failing_since_ms: since[at],
            last_success_at_ms: successes[at],
        };
        tables.states.insert(*slot, state);
    }
    Ok(Answer::Changed(slots.len()))
}
