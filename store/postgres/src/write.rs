//! Writes a decided batch: one transaction, all of whose statements are sent at once.
//!
//! A process that stops in between therefore holds no lock. Each statement's answer counts: after a failed one, the
//! database makes the commit a rollback.

pub(crate) mod callers;
pub(crate) mod deliveries;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod purges;
pub(crate) mod statistics;

pub(crate) use deliveries::{DELETE_OPEN, PUT_OPEN};
pub(crate) use statistics::{read_window_key, window_key};

use crate::cluster::Shard;
use crate::cluster::view::Seat;
use crate::convert::{int8, ms, uuid};
use crate::link::{Link, failed};
use crate::load::COUNTERS_KEY;
use crate::staged::Staged;
use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::Poll;
use stormhook_store::backend::write;
use stormhook_store::stats::{Counters, Level};
use stormhook_store::{StoreError, UnixMs};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Statement};

const UUIDS: Type = Type::UUID_ARRAY;
const INT4S: Type = Type::INT4_ARRAY;
const INT8S: Type = Type::INT8_ARRAY;
const BYTES: Type = Type::BYTEA_ARRAY;
const TEXTS: Type = Type::TEXT_ARRAY;
const BOOLS: Type = Type::BOOL_ARRAY;

type Parameters = Vec<Box<dyn ToSql + Sync + Send>>;

/// A statement with its parameters.
struct Step {
    statement: Statement,
    parameters: Parameters,
}

/// The steps of a transaction.
pub(crate) struct Steps<'a> {
    link: &'a Link,
    steps: Vec<Step>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(link: &'a Link) -> Self {
        Self {
            link,
            steps: Vec::new(),
        }
    }

    /// Sends all of them in one transaction.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        run(self.link, &self.steps).await
    }

    pub(super) async fn add(
        &mut self,
        sql: &'static str,
        types: &[Type],
        parameters: Parameters,
    ) -> Result<(), StoreError> {
        let statement = self.link.prepare(sql, types).await?;
        self.steps.push(Step {
            statement,
            parameters,
        });
        Ok(())
    }
}

macro_rules! parameters {
    ($($value:expr),* $(,)?) => {{
        let parameters: crate::write::Parameters = vec![$(Box::new($value)),*];
        parameters
    }};
}
use parameters;

/// Commits the batch. `incarnation` is that of the lane.
///
/// # Errors
/// Some statement failed: then nothing was written, unless the connection broke.
pub(crate) async fn commit(
    link: &Link,
    (lane, incarnation): (Seat, i64),
    staged: &Staged,
) -> Result<(), StoreError> {
    let windows = statistics::windows_to_write(link, lane, staged).await?;
    let mut steps = Steps::new(link);
    fence(&mut steps, lane, incarnation, staged).await?;
    events::events(&mut steps, staged).await?;
    deliveries::deliveries(&mut steps, staged).await?;
    endpoints::endpoints(&mut steps, staged).await?;
    purges::purges(&mut steps, staged).await?;
    callers::changed_api_keys(&mut steps, &staged.api_keys, staged.tells_api_keys).await?;
    callers::audit(&mut steps, &staged.audit).await?;
    statistics::statistics(&mut steps, lane, staged, windows).await?;
    shards(&mut steps, lane, staged).await?;
    steps.commit().await
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// Sends all steps in one transaction.
async fn run(link: &Link, steps: &[Step]) -> Result<(), StoreError> {
    let client = &link.client;
    let simple = |sql: &'static str| -> Answer<'_> {
        Box::pin(async move { client.batch_execute(sql).await.map(|()| 0) })
    };
    let mut answers: Vec<Answer<'_>> = vec![simple("BEGIN")];
    for step in steps {
        answers.push(Box::pin(async move {
            let parameters: Vec<&(dyn ToSql + Sync)> = step
                .parameters
                .iter()
                .map(|parameter| &**parameter as &(dyn ToSql + Sync))
                .collect();
            client.execute(&step.statement, &parameters).await
        }));
    }
    answers.push(simple("COMMIT"));
    // A statement is sent when its future is first polled.
    let mut unanswered = Vec::new();
    let mut answered = Vec::new();
    for mut answer in answers {
        match futures_util::poll!(answer.as_mut()) {
            Poll::Ready(result) => answered.push(result),
            Poll::Pending => unanswered.push(answer),
        }
    }
    for answer in unanswered {
        answered.push(answer.await);
    }
    // The first error is the cause; those behind it say only that the transaction is aborted.
    match answered.into_iter().find_map(Result::err) {
        Some(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
            Err(StoreError::TakenOver)
        }
        Some(error) => Err(failed(&error)),
        None => Ok(()),
    }
}

async fn fence(
    steps: &mut Steps<'_>,
    lane: Seat,
    incarnation: i64,
    staged: &Staged,
) -> Result<(), StoreError> {
    let counters: Vec<(Level, UnixMs, Counters)> = staged
        .current
        .iter()
        .map(|((level, start), counters)| (*level, *start, *counters))
        .collect();
    let numbers = &staged.numbers;
    let horizon = staged.horizon.unwrap_or_default();
    // Anything but one row is an error: the number of rows is divided by.
    let sql = "WITH fence AS (UPDATE @.lanes SET commit_no = $2, last_event = $3, last_stamp = $4, \
                 next_bulk = $5, paced_ms = $6, states_upto = $7, counters = $8, \
                 swept_before_ms = greatest(swept_before_ms, $10), \
                 deliveries_swept_before_ms = greatest(deliveries_swept_before_ms, $11) \
               WHERE lane = $9 AND incarnation = $1 AND commit_no = $2 - 1 RETURNING 1) \
               SELECT 1 / (SELECT count(*) FROM fence)";
    let types = [
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
    ];
    let parameters = parameters![
        incarnation,
        int8(staged.commit),
        uuid(numbers.last_event.0),
        int8(numbers.last_stamp),
        int8(numbers.next_bulk),
        ms(staged.paced),
        uuid(staged.states_upto.0),
        write("counters", COUNTERS_KEY, &counters)?,
        lane,
        ms(horizon.events_before),
        ms(horizon.attempts_before),
    ];
    steps.add(sql, &types, parameters).await
}

/// Shards that were read, and those that are given. The fence before it has shown that they are this lane's.
async fn shards(steps: &mut Steps<'_>, lane: Seat, staged: &Staged) -> Result<(), StoreError> {
    let numbers = |of: &BTreeSet<Shard>| -> Vec<i16> {
        let adopted = of.iter().map(|shard| shard.number());
        adopted.collect()
    };
    let types = [Type::INT2, Type::INT2_ARRAY, Type::UUID];
    if !staged.adopted.is_empty() {
        let sql = "UPDATE @.shards SET states_upto = $3, adopted = true WHERE owner = $1 AND shard = ANY($2)";
        let parameters = parameters![lane, numbers(&staged.adopted), uuid(staged.states_upto.0)];
        steps.add(sql, &types, parameters).await?;
    }
    if !staged.given.is_empty() {
        // What the daemon before it sent may still be on the wire: who gets the shard waits for the rest of that time.
        let sql = "UPDATE @.shards SET states_upto = $3, owner = NULL, adopted = false \
                   WHERE owner = $1 AND shard = ANY($2)";
        let parameters = parameters![lane, numbers(&staged.given), uuid(staged.states_upto.0)];
        steps.add(sql, &types, parameters).await?;
    }
    Ok(())
}
