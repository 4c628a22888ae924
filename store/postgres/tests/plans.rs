//! The plans of the statements that must stay fast however many rows there are: each uses the index that is meant, reads a
//! number of pages that depends only on what was asked for, and scans no big table.
//!
//! `STORMHOOK_PLAN_ROWS` is how many deliveries wait, 200,000 by default. With `--no-capture` it prints the plans and times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't continue fails, and its table is for reading"
)]
#![allow(dead_code, reason = "the tests of faults use more of the fixture")]

mod proxy;
mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use stormhook_postgres::hot::{PLAN_CACHE_MODE, STATEMENTS};
use support::*;

/// Deliveries that wait, if nothing else is asked for.
const WAITING: u64 = 200_000;
/// Days with a partition each.
const DAYS: u64 = 30;
/// Endpoints, each of an organization of its own.
const ENDPOINTS: u64 = 10_000;
/// The slot of the endpoint that gets every fortieth event, so that it has many more than are asked for.
const BUSIEST: u64 = 1_007;
/// Rows that a batch asks for at once.
const BATCH: u64 = 200;
/// Pages that one row may take: the levels of an index, the row, and the same in a second table.
const PAGES_PER_ROW: u64 = 12;
/// Pages that a statement may take for itself: the catalogue, and the edges of each partition.
const PAGES: u64 = 200;
/// Tables that must not be scanned, by the beginnings of their names.
const BIG: &[&str] = &["open", "events", "done", "keys"];

/// A statement with parameters.
struct Case {
    /// Its name in [`STATEMENTS`].
    name: &'static str,
    types: &'static str,
    /// A query of its parameters as text.
    parameters: String,
    /// The indexes that are meant: `*` stands for the days of partitions.
    index: &'static [&'static str],
    /// Rows that it is asked for.
    rows: u64,
    /// Whether it is prepared for one run. Then its plan is always made for its parameters.
    is_run_once: bool,
}

/// What is in the tables: event `n` of `of` has one delivery; one of three has ended and has a key.
struct Filled {
    /// The events.
    events: u64,
}

impl Filled {
    /// Returns a query of values for some events that wait, or that have ended, spread over all days.
    fn some(&self, ended: bool, count: u64, values: &str) -> String {
        let step = self.events / count / 3 * 3;
        let first = if ended { 0 } else { 1 };
        let last = first + step * (count - 1);
        format!("SELECT {values} FROM generate_series({first}, {last}, {step}) n")
    }
}

/// Functions that make what belongs to an event by its number.
fn functions(events: u64, first_ms: u64) -> String {
    let span_ms = DAYS * DAY_MS;
    format!(
        "CREATE FUNCTION ms_of(n int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS
           $$ SELECT {first_ms} + n * {span_ms} / {events} $$;
         CREATE FUNCTION id_of(n int8) RETURNS uuid LANGUAGE sql IMMUTABLE AS
           $$ SELECT (lpad(to_hex(ms_of(n)), 12, '0') || lpad(to_hex(n + 4096), 20, '0'))::uuid $$;
         CREATE FUNCTION slot_of(n int8) RETURNS int4 LANGUAGE sql IMMUTABLE AS
           $$ SELECT CASE WHEN n % 40 = 7 THEN {BUSIEST} ELSE (1000 + n * 7919 % {ENDPOINTS})::int4 END $$;
         CREATE FUNCTION sequence_of(n int8) RETURNS int8 LANGUAGE sql IMMUTABLE AS
           $$ SELECT n + 1 $$;
         CREATE FUNCTION text_of(n int8, bytes int4) RETURNS bytea LANGUAGE sql IMMUTABLE AS
           $$ SELECT convert_to(rpad(md5(n::text), bytes, 'x'), 'UTF8') $$;"
    )
}

/// Fills the tables without the store, which would take hours.
fn fill(fixture: &mut Fixture, waiting: u64) -> Filled {
    // The store makes the partitions.
    let first_ms = fixture.now.0 / DAY_MS * DAY_MS;
    fixture.endpoint("org", &["*"]);
    for _ in 0..DAYS {
        fixture.order();
        fixture.now = fixture.now.plus_ms(DAY_MS);
    }
    fixture.close();
    let events = waiting / 2 * 3;
    fixture.sql(&functions(events, first_ms));
    fixture.sql(&format!(
        "INSERT INTO stormhook.endpoints (slot, id, organization, url, active, deleted, record, shard)
           SELECT 1000 + n, gen_random_uuid(), 'org_' || n, 'http://localhost/', true, false, text_of(n, 300),
             stormhook.shard_of('org_' || n) FROM generate_series(0, {ENDPOINTS} - 1) n;
         INSERT INTO stormhook.endpoint_states SELECT 1000 + n, {events}, 0, NULL, NULL
           FROM generate_series(0, {ENDPOINTS} - 1) n;
         INSERT INTO stormhook.events
           SELECT ms_of(n), id_of(n), NULL, 1, 'org_' || slot_of(n) - 1000, 'order.created', NULL,
             int4send(slot_of(n)) || int8send(sequence_of(n)), text_of(n, 200) FROM generate_series(0::int8, {events} - 1) n;
         INSERT INTO stormhook.open (sequence, due_ms, event, slot, record)
           SELECT sequence_of(n), ms_of(n) + n % 86400000, id_of(n), slot_of(n), text_of(n, 80)
           FROM generate_series(0::int8, {events} - 1) n WHERE n % 3 > 0;
         INSERT INTO stormhook.done (sequence, event, slot, undelivered, record)
           SELECT sequence_of(n), id_of(n), slot_of(n), n % 300 = 0, text_of(n, 80)
           FROM generate_series(0::int8, {events} - 1, 3) n;
         INSERT INTO stormhook.keys (day, fingerprint, id)
           SELECT ms_of(n) / {DAY_MS}, md5(n::text)::uuid, id_of(n) FROM generate_series(0::int8, {events} - 1, 3) n;
         ANALYZE"
    ));
    Filled { events }
}

/// Returns the cases of deliveries and events that a batch fetches or writes.
fn batches(filled: &Filled) -> Vec<Case> {
    let of_events = "array_agg(id_of(n))::text";
    let pairs = "array_agg(id_of(n))::text, array_agg(slot_of(n))::text";
    let numbers = "array_agg(slot_of(n))::text, array_agg(sequence_of(n))::text";
    let numbered = format!("{numbers}, {of_events}");
    let keys = "array_agg(ms_of(n) / 86400000)::text, array_agg(md5(n::text)::uuid)::text";
    let put = "array_agg(sequence_of(n))::text, array_agg(ms_of(n))::text, array_agg(id_of(n))::text, \
               array_agg(slot_of(n))::text, array_agg(text_of(n, 80))::text";
    let case = |name, types, parameters, index| Case {
        name,
        types,
        parameters,
        index,
        rows: BATCH,
        is_run_once: false,
    };
    vec![
        case(
            "fetch: open deliveries",
            "uuid[], int4[]",
            filled.some(false, BATCH, pairs),
            &["open_event"],
        ),
        case(
            "fetch: deliveries of events",
            "uuid[]",
            filled.some(true, BATCH, of_events),
            &["events_*_pkey"],
        ),
        case(
            "fetch: deliveries by number",
            "int4[], int8[], uuid[]",
            filled.some(true, BATCH, &numbered),
            &["open_pkey", "done_*_pkey"],
        ),
        case(
            "fetch: deliveries with a row",
            "int4[], int8[], uuid[]",
            filled.some(true, BATCH, &numbered),
            &["open_pkey", "done_*_pkey"],
        ),
        case(
            "fetch: events",
            "uuid[]",
            filled.some(false, BATCH, of_events),
            &["events_*_pkey"],
        ),
        case(
            "fetch: keys",
            "int4[], uuid[]",
            filled.some(true, BATCH, keys),
            &["keys_*_pkey"],
        ),
        case(
            "write: delete open",
            "int4[], int8[]",
            filled.some(false, BATCH, numbers),
            &["open_pkey"],
        ),
        case(
            "write: put open",
            "int8[], int8[], uuid[], int4[], bytea[]",
            filled.some(false, BATCH, put),
            &["open_pkey"],
        ),
    ]
}

/// Returns the cases of a takeover of one shard.
fn takeover(filled: &Filled) -> Vec<Case> {
    let endpoints = ENDPOINTS / 256 * 2;
    let waiting = filled.events / 3 * 2 / 256 * 2;
    let shard = |name, index, rows| Case {
        name,
        types: "int2[]",
        parameters: "SELECT '{7}'".to_owned(),
        index,
        rows,
        is_run_once: true,
    };
    let since = filled.events - 2_000;
    vec![
        shard("load: endpoints", &["endpoints_shard"], endpoints),
        shard("load: states", &["endpoints_shard"], endpoints),
        shard("load: waiting", &["open_pkey"], waiting),
        shard("load: count", &["open_pkey"], waiting),
        Case {
            name: "load: sequence numbers",
            types: "uuid",
            parameters: format!("SELECT id_of({since})::text"),
            index: &["events_*_pkey"],
            rows: 2_000,
            is_run_once: true,
        },
    ]
}

/// Returns the cases of lists and of bulk changes.
fn lists(filled: &Filled) -> Vec<Case> {
    let page = 50;
    let half = filled.events / 6 * 3;
    let span = format!("id_of(0)::text, id_of({half})::text");
    let case = |name, types, parameters: String, index, rows| Case {
        name,
        types,
        parameters: format!("SELECT {parameters}"),
        index,
        rows,
        is_run_once: false,
    };
    vec![
        case(
            "read: event",
            "uuid",
            format!("id_of({half})::text"),
            &["events_*_pkey"],
            1,
        ),
        case(
            "list: deliveries of an endpoint",
            "int4, int8, int8",
            format!("'{BUSIEST}', '{}', '{page}'", i64::MAX),
            &["open_pkey", "done_*_pkey", "events_*_pkey"],
            page,
        ),
        case(
            "list: undelivered",
            "uuid, uuid, int4, int8",
            format!("{span}, '0', '{page}'"),
            &["done_*_undelivered", "events_*_pkey"],
            page,
        ),
        case(
            "list: events",
            "uuid, uuid, int8",
            format!("{span}, '1000'"),
            &["events_*_pkey"],
            1_000,
        ),
        case(
            "list: event by key",
            "int4[], uuid",
            format!("array[ms_of({half}) / 86400000]::text, md5('{half}')::uuid::text"),
            &["keys_*_pkey"],
            1,
        ),
        case(
            "bulk: deliveries",
            "int4, int8, int8, int8",
            format!("'{BUSIEST}', '0', '{}', '{BATCH}'", i64::MAX),
            &["open_pkey", "done_*_pkey", "events_*_pkey"],
            BATCH,
        ),
        case(
            "bulk: missed events",
            "uuid, uuid, text, int8",
            format!("{span}, 'org_7', '1000'"),
            &["events_*_pkey"],
            1_000,
        ),
        case(
            "purge: events of a span",
            "uuid, uuid, int8, text",
            format!("{span}, '1000', 'org_7'"),
            &["events_*_pkey"],
            1_000,
        ),
        case(
            "purge: events by id",
            "uuid[], text",
            format!("array[id_of({half})]::text, 'org_7'"),
            &["events_*_pkey"],
            1,
        ),
    ]
}

/// Returns the name of an index, with `*` for the day of its partition.
fn without_day(index: &str) -> String {
    let part = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "*".to_owned(),
        false => part.to_owned(),
    };
    let parts: Vec<String> = index.split('_').map(part).collect();
    parts.join("_")
}

/// What a plan does.
#[derive(Debug, Default)]
struct Plan {
    indexes: BTreeSet<String>,
    /// Big tables that are scanned, with their rows.
    scanned: Vec<String>,
    pages: u64,
    rows: u64,
    took_ms: f64,
}

impl Plan {
    fn read(said: &str) -> Self {
        let said: Value = serde_json::from_str(said).expect("a plan is JSON");
        let root = &said[0]["Plan"];
        let number = |name: &str| root[name].as_u64().unwrap_or(0);
        let mut plan = Self {
            pages: number("Shared Hit Blocks") + number("Shared Read Blocks"),
            rows: number("Actual Rows"),
            took_ms: said[0]["Execution Time"].as_f64().unwrap_or(0.0),
            ..Self::default()
        };
        plan.walk(root);
        plan
    }

    fn walk(&mut self, node: &Value) {
        for name in ["Index Name", "Conflict Arbiter Indexes"] {
            match &node[name] {
                Value::String(index) => drop(self.indexes.insert(without_day(index))),
                Value::Array(all) => {
                    let all = all.iter().filter_map(Value::as_str);
                    self.indexes.extend(all.map(without_day));
                }
                _ => {}
            }
        }
        let relation = node["Relation Name"].as_str().unwrap_or("");
        let is_big = BIG.iter().any(|big| relation.starts_with(big));
        let is_run = node["Actual Loops"].as_u64() != Some(0);
        if node["Node Type"] == "Seq Scan" && is_big && is_run {
            self.scanned.push(relation.to_owned());
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.walk(child);
        }
    }

    /// Returns what is wrong with it.
    fn faults(&self, case: &Case) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.scanned.is_empty() {
            faults.push(format!("it scans {:?}", self.scanned));
        }
        for wanted in case.index {
            if !self.indexes.contains(*wanted) {
                faults.push(format!("no index {wanted}, but {:?}", self.indexes));
            }
        }
        let most = PAGES + PAGES_PER_ROW * case.rows;
        if self.pages > most {
            faults.push(format!("{} pages, more than {most}", self.pages));
        }
        faults
    }
}

/// Explains a statement as it runs, and undoes what it did.
async fn explain(client: &tokio_postgres::Client, case: &Case, mode: &str) -> Plan {
    let (_, sql) = STATEMENTS
        .iter()
        .find(|(name, _)| *name == case.name)
        .unwrap();
    let sql = sql.replace('@', "stormhook");
    let row = client.query_one(&case.parameters, &[]).await.unwrap();
    let parameters: Vec<String> = (0..row.len())
        .map(|index| format!("'{}'", row.get::<_, String>(index).replace('\'', "''")))
        .collect();
    let parameters = parameters.join(", ");
    let types = case.types;
    let before =
        format!("BEGIN; SET LOCAL plan_cache_mode = {mode}; PREPARE asked ({types}) AS {sql}");
    client.batch_execute(&before).await.unwrap();
    // Twice: the first run brings the pages to memory.
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked ({parameters})");
    let mut plan = Plan::default();
    for _ in 0..2 {
        client.batch_execute("SAVEPOINT before").await.unwrap();
        plan = explained(client, &sql).await;
        client.batch_execute("ROLLBACK TO before").await.unwrap();
    }
    client
        .batch_execute("ROLLBACK; DEALLOCATE asked")
        .await
        .unwrap();
    plan
}

#[test]
fn statements_take_pages_by_what_is_asked_for_not_by_what_there_is() {
    let asked = std::env::var("STORMHOOK_PLAN_ROWS").ok();
    let waiting = asked.map_or(WAITING, |rows| rows.parse().expect("a number of rows"));
    let mut fixture = Fixture::new();
    let filled = fill(&mut fixture, waiting);
    println!("{waiting} waiting, {} events", filled.events);
    let mut cases = batches(&filled);
    cases.extend(takeover(&filled));
    cases.extend(lists(&filled));
    let tested: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    let all: BTreeSet<_> = STATEMENTS.iter().map(|(name, _)| *name).collect();
    assert_eq!(tested, all);
    let mut faults = Vec::new();
    fixture.with_client(async |client| {
        for case in &cases {
            // The store asks for the first. A pooler that drops its settings brings the other one.
            let modes: &[&str] = match case.is_run_once {
                true => &["force_custom_plan"],
                false => &["force_custom_plan", "force_generic_plan"],
            };
            for mode in modes {
                let plan = explain(client, case, mode).await;
                let (pages, rows, took_ms) = (plan.pages, plan.rows, plan.took_ms);
                println!(
                    "{:32} {mode:19} {rows:>7} rows {pages:>7} pages {took_ms:>9.2} ms  {:?} {:?}",
                    case.name, plan.indexes, plan.scanned
                );
                let found = plan.faults(case).into_iter();
                faults.extend(found.map(|fault| format!("{} ({mode}): {fault}", case.name)));
            }
        }
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Statements that run while `open` fills.
const WHILE_IT_FILLS: &[(&str, &str, &str)] = &[
    ("deletes", "write: delete open", "int4[], int8[]"),
    ("fetches", "fetch: open deliveries", "uuid[], int4[]"),
];

/// Runs a statement that explains another one.
async fn explained(client: &tokio_postgres::Client, sql: &str) -> Plan {
    let said = client.simple_query(sql).await.unwrap();
    let text = said.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Plan::read(&text.collect::<String>())
}

#[test]
fn a_plan_that_was_made_for_an_empty_table_is_not_kept() {
    let fixture = Fixture::new();
    fixture.sql("ALTER TABLE stormhook.open SET (autovacuum_enabled = off)");
    fixture.sql("VACUUM ANALYZE stormhook.open");
    fixture.with_client(async |client| {
        let mode = format!("SET plan_cache_mode = {PLAN_CACHE_MODE}");
        client.batch_execute(&mode).await.unwrap();
        for (name, statement, types) in WHILE_IT_FILLS {
            let found = STATEMENTS.iter().find(|(name, _)| name == statement);
            let sql = found.unwrap().1.replace('@', "stormhook");
            // The server keeps a plan from the sixth time on, if it is left to it.
            let run = format!("EXECUTE {name} ('{{}}', '{{}}');").repeat(6);
            let prepare = format!("PREPARE {name} ({types}) AS {sql}; {run}");
            client.batch_execute(&prepare).await.unwrap();
        }
        let fill = "INSERT INTO stormhook.open (sequence, due_ms, event, slot, record) \
                      SELECT n, 1, md5(n::text)::uuid, n % 1000, decode(repeat('00', 80), 'hex') \
                      FROM generate_series(1::int8, 20000) n";
        client.batch_execute(fill).await.unwrap();
        for (name, columns) in [("fetches", "event, slot"), ("deletes", "slot, sequence")] {
            let arrays: Vec<String> = columns
                .split(", ")
                .map(|column| format!("(SELECT array_agg({column} ORDER BY sequence) FROM stormhook.open WHERE sequence <= 200)"))
                .collect();
            let sql = format!(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name} ({})",
                literals(client, &arrays).await
            );
            let plan = explained(client, &sql).await;
            assert!(plan.scanned.is_empty(), "{name}: {plan:?}");
            assert!(plan.pages <= PAGES + PAGES_PER_ROW * BATCH, "{name}: {plan:?}");
        }
    });
}

/// Returns the values of expressions as literals.
async fn literals(client: &tokio_postgres::Client, expressions: &[String]) -> String {
    let texts: Vec<String> = expressions.iter().map(|e| format!("{e}::text")).collect();
    let row = client
        .query_one(&format!("SELECT {}", texts.join(", ")), &[])
        .await
        .unwrap();
    let all: Vec<String> = (0..row.len())
        .map(|index| format!("'{}'", row.get::<_, String>(index)))
        .collect();
    all.join(", ")
}
