//! Seats, leases, and shards: the statements of `store/postgres/src/cluster/`.

use super::super::START_MS;
use super::super::tables::{Lane, Seat, Tables};
use super::{Answer, Arguments, Key, Refused, Statement, nothing, row};
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(super) const ALL: &[Statement] = &[
    Statement {
        sql: "SELECT version FROM @.meta",
        takes: &[],
        gives: &[Type::INT4],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(vec![row![stormhook_postgres::VERSION]])),
    },
    Statement {
        // Nothing is imported into it or moved from it here.
        // And secrets are not encrypted.
        sql: "SELECT importing, moved_to, secrets_form, secrets_before FROM @.meta FOR UPDATE",
        takes: &[],
        gives: &[Type::BOOL, Type::TEXT, Type::TEXT, Type::TEXT],
        locks: |_, _| vec![Key::Meta],
        run: |_, _| {
            let plain = "plain".to_owned();
            Ok(Answer::Rows(vec![row![
                false,
                None::<String>,
                plain,
                None::<String>
            ]]))
        },
    },
    Statement {
        sql: "SELECT cluster_token FROM @.meta",
        takes: &[],
        gives: &[Type::BYTEA],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(vec![row![b"token".to_vec()]])),
    },
    Statement {
        sql: "SELECT admin_token_digest, api_keys_revision FROM @.meta",
        takes: &[],
        gives: &[Type::BYTEA, Type::INT8],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(vec![row![None::<Vec<u8>>, 0_i64]])),
    },
    Statement {
        sql: "SELECT seat FROM @.seats WHERE daemon = $1",
        takes: &[Type::UUID],
        gives: &[Type::INT2],
        locks: nothing,
        run: |tables, given| {
            let daemon: Uuid = given.get(1);
            let seats = tables.seats.iter().filter(|(_, s)| s.daemon == daemon);
            Ok(Answer::Rows(seats.map(|(seat, _)| row![*seat]).collect()))
        },
    },
    Statement {
        sql: "SELECT coalesce( \
               (SELECT min(seat) FROM @.seats s WHERE fenced AND NOT EXISTS (SELECT FROM @.shards h WHERE h.owner = s.seat)), \
               (SELECT coalesce(max(seat) + 1, 0) FROM @.seats))::int2",
        takes: &[],
        gives: &[Type::INT2],
        locks: nothing,
        run: free_seat,
    },
    Statement {
        sql: "INSERT INTO @.seats (seat, incarnation, daemon, version, schema, address, lease_until, certificate) \
             VALUES ($1, 1, $2, $3, $4, $5, now() + $6 * interval '1 millisecond', $7) \
             ON CONFLICT (seat) DO UPDATE SET incarnation = seats.incarnation + 1, daemon = excluded.daemon, \
               version = excluded.version, schema = excluded.schema, address = excluded.address, \
               lease_until = excluded.lease_until, certificate = excluded.certificate, fenced = false \
             RETURNING incarnation",
        takes: &[
            Type::INT2,
            Type::UUID,
            Type::TEXT,
            Type::INT4,
            Type::TEXT,
            Type::FLOAT8,
            Type::BYTEA,
        ],
        gives: &[Type::INT8],
        locks: this_seat,
        run: take,
    },
    Statement {
        sql: "INSERT INTO @.lanes (lane, incarnation, commit_no, last_event, last_stamp, next_bulk, paced_ms, \
                swept_before_ms, states_upto, counters) \
             SELECT $1, 0, 0, '00000000-0000-0000-0000-000000000000', 0, 0, 0, 0, '00000000-0000-0000-0000-000000000000', '' \
             ON CONFLICT (lane) DO NOTHING",
        takes: &[Type::INT2],
        gives: &[],
        locks: |_, given| vec![Key::Lane(given.get(1))],
        run: |tables, given| {
            let lane = tables.lanes.entry(given.get(1));
            lane.or_insert_with(Lane::default);
            Ok(Answer::Changed(1))
        },
    },
    Statement {
        sql: "UPDATE @.seats SET lease_until = now() + $3 * interval '1 millisecond' \
                   WHERE seat = $1 AND incarnation = $2 AND NOT fenced \
                   RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::int8",
        takes: &[Type::INT2, Type::INT8, Type::FLOAT8],
        gives: &[Type::INT8],
        locks: this_seat,
        run: |tables, given| {
            let Some(seat) = own(tables, given).filter(|seat| !seat.fenced) else {
                return Ok(Answer::Rows(Vec::new()));
            };
            seat.lease_until_ms = given.now_ms + given.get::<f64>(3);
            let wall_ms = i64::try_from(START_MS).unwrap() + whole(given.now_ms);
            Ok(Answer::Rows(vec![row![wall_ms]]))
        },
    },
    Statement {
        sql: "WITH me AS (SELECT seat FROM @.seats WHERE seat = $1 AND incarnation = $2 AND NOT fenced FOR UPDATE), \
                     free AS (SELECT s.shard FROM @.shards s WHERE s.owner IS NULL AND EXISTS (SELECT FROM me) \
                              ORDER BY s.shard LIMIT $3 FOR UPDATE SKIP LOCKED) \
                   UPDATE @.shards s SET owner = $1, epoch = epoch + 1, adopted = false FROM free WHERE s.shard = free.shard",
        takes: &[Type::INT2, Type::INT8, Type::INT8],
        gives: &[],
        // Whoever has locked a shard owns it until that transaction ends, so what is free is not locked.
        locks: this_seat,
        run: claim,
    },
    Statement {
        sql: "UPDATE @.seats SET fenced = true, lease_until = now() WHERE seat = $1 AND incarnation = $2",
        takes: &[Type::INT2, Type::INT8],
        gives: &[],
        locks: this_seat,
        run: |tables, given| {
            let Some(seat) = own(tables, given) else {
                return Ok(Answer::Changed(0));
            };
            seat.fenced = true;
            seat.lease_until_ms = given.now_ms;
            Ok(Answer::Changed(1))
        },
    },
    Statement {
        sql: "SELECT seat, incarnation, version, address, (extract(epoch FROM lease_until - now()) * 1000)::int8, certificate, schema \
                   FROM @.seats WHERE NOT fenced",
        takes: &[],
        gives: &[
            Type::INT2,
            Type::INT8,
            Type::TEXT,
            Type::TEXT,
            Type::INT8,
            Type::BYTEA,
            Type::INT4,
        ],
        locks: nothing,
        run: members,
    },
    Statement {
        sql: "SELECT shard, owner FROM @.shards WHERE owner IS NOT NULL",
        takes: &[],
        gives: &[Type::INT2, Type::INT2],
        locks: nothing,
        run: |tables, _| {
            let owned = tables.shards.iter();
            let owned = owned.filter_map(|(shard, row)| Some(row![*shard, row.owner?]));
            Ok(Answer::Rows(owned.collect()))
        },
    },
    Statement {
        sql: "UPDATE @.seats SET fenced = true \
               WHERE seat = $1 AND incarnation = $2 AND NOT fenced AND lease_until < now()",
        takes: &[Type::INT2, Type::INT8],
        gives: &[],
        locks: this_seat,
        run: |tables, given| {
            let seat = own(tables, given);
            let Some(seat) = seat.filter(|s| !s.fenced && s.lease_until_ms < given.now_ms) else {
                return Ok(Answer::Changed(0));
            };
            seat.fenced = true;
            Ok(Answer::Changed(1))
        },
    },
    Statement {
        sql: "UPDATE @.lanes SET incarnation = incarnation + 1 WHERE lane = $1 RETURNING states_upto",
        takes: &[Type::INT2],
        gives: &[Type::UUID],
        locks: |_, given| vec![Key::Lane(given.get(1))],
        run: |tables, given| {
            let lane = tables.lanes.get_mut(&given.get(1)).expect("a lane");
            lane.incarnation += 1;
            Ok(Answer::Rows(vec![row![lane.states_upto]]))
        },
    },
    Statement {
        sql: "UPDATE @.shards SET owner = NULL, \
                 states_upto = CASE WHEN adopted THEN greatest(states_upto, $2) ELSE states_upto END, \
                 rests_until = now() + $3 * interval '1 millisecond' WHERE owner = $1",
        takes: &[Type::INT2, Type::UUID, Type::FLOAT8],
        gives: &[],
        locks: |tables, given| {
            let owner = Some(given.get(1));
            let owned = tables.shards.iter().filter(|(_, s)| s.owner == owner);
            owned.map(|(shard, _)| Key::Shard(*shard)).collect()
        },
        run: free_shards,
    },
];

fn this_seat(_: &Tables, given: &Arguments<'_>) -> Vec<Key> {
    vec![Key::Seat(given.get(1))]
}

fn free_seat(tables: &mut Tables, _: &Arguments<'_>) -> Result<Answer, Refused> {
    let has_shards = |seat: &i16| tables.shards.values().any(|s| s.owner == Some(*seat));
    let mut free = tables.seats.iter();
    let free = free.find(|(seat, s)| s.fenced && !has_shards(seat));
    let next = tables.seats.keys().last().map_or(0, |last| last + 1);
    Ok(Answer::Rows(vec![row![
        free.map_or(next, |(seat, _)| *seat)
    ]]))
}

fn take(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let seat: i16 = given.get(1);
    let before = tables.seats.get(&seat).map_or(0, |seat| seat.incarnation);
    let taken = Seat {
        incarnation: before + 1,
        daemon: given.get(2),
        version: given.get(3),
        schema: given.get(4),
        address: given.get(5),
        certificate: given.get(7),
        lease_until_ms: given.now_ms + given.get::<f64>(6),
        fenced: false,
    };
    let incarnation = taken.incarnation;
    tables.seats.insert(seat, taken);
    Ok(Answer::Rows(vec![row![incarnation]]))
}

fn claim(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    if own(tables, given).is_none_or(|seat| seat.fenced) {
        return Ok(Answer::Changed(0));
    }
    let most = usize::try_from(given.get::<i64>(3)).unwrap();
    let free = tables
        .shards_mut()
        .values_mut()
        .filter(|s| s.owner.is_none());
    let claimed = free.take(most).map(|shard| {
        shard.owner = Some(given.get(1));
        shard.epoch += 1;
        shard.adopted = false;
    });
    Ok(Answer::Changed(claimed.count()))
}

fn members(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let seats = tables.seats.iter().filter(|(_, seat)| !seat.fenced);
    let seats = seats.map(|(number, seat)| {
        row![
            *number,
            seat.incarnation,
            seat.version.clone(),
            seat.address.clone(),
            whole(seat.lease_until_ms - given.now_ms),
            seat.certificate.clone(),
            seat.schema
        ]
    });
    Ok(Answer::Rows(seats.collect()))
}

fn free_shards(tables: &mut Tables, given: &Arguments<'_>) -> Result<Answer, Refused> {
    let owner = Some(given.get(1));
    let owned = tables
        .shards_mut()
        .values_mut()
        .filter(|s| s.owner == owner);
    let freed = owned.map(|shard| {
        shard.owner = None;
        if shard.adopted {
            shard.states_upto = shard.states_upto.max(given.get(2));
        }
        shard.rests_until_ms = given.now_ms + given.get::<f64>(3);
    });
    Ok(Answer::Changed(freed.count()))
}

/// Returns the seat of the first parameter in the incarnation of the second.
fn own<'a>(tables: &'a mut Tables, given: &Arguments<'_>) -> Option<&'a mut Seat> {
    let incarnation: i64 = given.get(2);
    let seat = tables.seats.get_mut(&given.get(1));
    seat.filter(|seat| seat.incarnation == incarnation)
}

#[allow(clippy::cast_possible_truncation, reason = "a few days at most")]
fn whole(ms: f64) -> i64 {
    ms.round() as i64
}
