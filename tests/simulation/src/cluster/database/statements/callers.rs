//! API keys and the audit log (`store/postgres/src/callers.rs`, `store/postgres/src/write/callers.rs`). No producer
//! creates a key.

use super::{Answer, Statement, nothing};
use std::sync::Arc;
use tokio_postgres::types::Type;
use uuid::Uuid;

pub(super) const ALL: &[Statement] = &[
    Statement {
        sql: "SELECT id, record, revoked_ms, last_used_ms FROM @.api_keys ORDER BY id",
        takes: &[],
        gives: &[Type::UUID, Type::BYTEA, Type::INT8, Type::INT8],
        locks: nothing,
        run: |_, _| Ok(Answer::Rows(Vec::new())),
    },
    Statement {
        sql: "DELETE FROM @.api_keys WHERE least(revoked_ms, expires_ms) < $1",
        takes: &[Type::INT8],
        gives: &[],
        locks: nothing,
        run: |_, _| Ok(Answer::Changed(0)),
    },
    Statement {
        sql: "INSERT INTO @.audit (id, organization, target, record) \
               SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) ON CONFLICT (id) DO NOTHING",
        takes: &[
            Type::UUID_ARRAY,
            Type::TEXT_ARRAY,
            Type::TEXT_ARRAY,
            Type::BYTEA_ARRAY,
        ],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let (ids, records): (Vec<Uuid>, Vec<Vec<u8>>) = (given.get(1), given.get(4));
            let audit = Arc::make_mut(&mut tables.audit);
            let before = audit.len();
            for (id, record) in ids.into_iter().zip(records) {
                audit.entry(id).or_insert(record);
            }
            Ok(Answer::Changed(audit.len() - before))
        },
    },
    Statement {
        sql: "DELETE FROM @.audit WHERE id IN (SELECT id FROM @.audit WHERE id < $1 ORDER BY id LIMIT 10000)",
        takes: &[Type::UUID],
        gives: &[],
        locks: nothing,
        run: |tables, given| {
            let audit = Arc::make_mut(&mut tables.audit);
            let kept = audit.split_off(&given.get(1));
            let past = std::mem::replace(audit, kept);
            Ok(Answer::Changed(past.len()))
        },
    },
];
