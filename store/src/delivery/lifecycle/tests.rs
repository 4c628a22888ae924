//! The whole table: what each move does in each status, or that it is illegal and changes nothing.

use super::*;
use crate::delivery::AttemptOutcome;
use crate::ids::{EventId, Slot};
use std::collections::BTreeMap;

const AT: UnixMs = UnixMs(1_000);

type Move = fn(&mut Delivery) -> Result<(), IllegalMove>;

/// Everything that can happen to a delivery, in the words of the diagram in README.md.
const MOVES: [(&str, Move); 12] = [
    ("2xx", |d| {
        d.attempt_succeeded(attempt(), AT);
        Ok(())
    }),
    ("attempt failed", |d| {
        d.attempt_failed(attempt(), AT, Some(AT));
        Ok(())
    }),
    ("last attempt failed", |d| {
        d.attempt_failed(attempt(), AT, None);
        Ok(())
    }),
    ("extra attempt failed", |d| {
        d.retried(AT)?;
        d.attempt_failed(attempt(), AT, None);
        Ok(())
    }),
    ("410", |d| {
        d.attempt_gone(attempt(), AT);
        Ok(())
    }),
    ("interrupted", |d| {
        d.attempt_interrupted(attempt(), AT);
        Ok(())
    }),
    ("retried", |d| d.retried(AT)),
    ("new round", |d| {
        d.reopened(Trigger::Replay, AT);
        Ok(())
    }),
    ("cancelled", |d| d.cancelled(AT)),
    ("discarded", |d| d.ended_in_bulk(Reason::Discarded, AT)),
    ("endpoint deleted", |d| {
        d.ended_in_bulk(Reason::EndpointDeleted, AT)
    }),
    ("damaged", |d| d.found_damaged(AT)),
];

fn attempt() -> Attempt {
    Attempt {
        number: 0,
        round: 0,
        trigger: Trigger::Schedule,
        started_at: AT,
        duration_ms: 1,
        outcome: AttemptOutcome::HttpStatus,
        response_code: Some(500),
        response_excerpt: Some(b"no".to_vec()),
        error: None,
        reconnected: false,
    }
}

fn pending() -> Delivery {
    let id = DeliveryId {
        event: EventId(1),
        slot: Slot(1),
    };
    Delivery::created(id, 1, Trigger::Schedule, AT)
}

fn with(status: Status) -> Delivery {
    let mut d = pending();
    match status {
        Status::Pending => {}
        Status::Retrying => d.attempt_failed(attempt(), AT, Some(AT)),
        Status::Success => d.attempt_succeeded(attempt(), AT),
        Status::Abandoned => d.attempt_failed(attempt(), AT, None),
        Status::Failed => d.cancelled(AT).unwrap(),
    }
    assert_eq!(d.status, status);
    d
}

/// Returns what a move makes of a delivery with this status.
fn after(status: Status, happens: Move) -> Result<Delivery, IllegalMove> {
    let mut d = with(status);
    happens(&mut d).map(|()| d)
}

#[test]
fn the_table_of_all_moves_in_all_statuses_is_this_one() {
    let mut table = format!("{:<20}", "");
    for status in Status::ALL {
        table += &format!(" {:<9}", status.as_str());
    }
    for (name, happens) in MOVES {
        table = format!("{}\n{name:<20}", table.trim_end());
        for status in Status::ALL {
            let becomes = after(status, happens).map_or("-", |d| d.status.as_str());
            table += &format!(" {becomes:<9}");
        }
    }
    let expected = r"
                     PENDING   RETRYING  SUCCESS   ABANDONED FAILED
2xx                  SUCCESS   SUCCESS   SUCCESS   ABANDONED FAILED
attempt failed       RETRYING  RETRYING  SUCCESS   ABANDONED FAILED
last attempt failed  ABANDONED ABANDONED SUCCESS   ABANDONED FAILED
extra attempt failed RETRYING  RETRYING  -         -         -
410                  FAILED    FAILED    SUCCESS   ABANDONED FAILED
interrupted          PENDING   RETRYING  SUCCESS   ABANDONED FAILED
retried              PENDING   RETRYING  -         -         -
new round            PENDING   PENDING   PENDING   PENDING   PENDING
cancelled            FAILED    FAILED    -         -         -
discarded            FAILED    FAILED    -         -         -
endpoint deleted     FAILED    FAILED    -         -         -
damaged              FAILED    FAILED    -         -         -";
    assert_eq!(format!("\n{}", table.trim_end()), expected);
}

#[test]
fn a_move_that_is_illegal_is_an_error_and_changes_nothing() {
    for (name, happens) in MOVES {
        for status in Status::ALL {
            let before = with(status);
            let mut d = before.clone();
            if let Err(error) = happens(&mut d) {
                assert_eq!(error.status, status);
                assert_eq!(d, before, "{name} of {}", status.as_str());
            }
        }
    }
}

#[test]
fn a_status_may_become_what_some_move_makes_of_it_and_nothing_else() {
    for status in Status::ALL {
        for next in Status::ALL {
            let made = MOVES
                .iter()
                .any(|(_, happens)| after(status, *happens).is_ok_and(|d| d.status == next));
            assert_eq!(
                status.may_become(next),
                made || status == next,
                "{status:?} {next:?}"
            );
        }
    }
}

#[test]
fn an_open_delivery_is_due_and_an_ended_one_is_not() {
    for (name, happens) in MOVES {
        for status in Status::ALL {
            if let Ok(d) = after(status, happens) {
                let open = d.status.is_open();
                let of = (d.due.is_some(), d.next_attempt_at.is_some());
                assert_eq!(of, (open, open), "{name} of {}", status.as_str());
                assert_eq!(d.reason.is_some(), d.status == Status::Failed);
            }
        }
    }
}

/// The diagram is derived from the moves: a change of either one fails here.
#[test]
fn the_diagram_of_the_readme_shows_every_move_to_another_status() {
    let mut edges: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
    for (from, status) in Status::ALL.into_iter().enumerate() {
        for (name, happens) in MOVES {
            let Ok(d) = after(status, happens) else {
                continue;
            };
            let to = Status::ALL.iter().position(|s| *s == d.status);
            let to = to.unwrap_or_default();
            if to != from {
                edges.entry((from, to)).or_default().push(name);
            }
        }
    }
    let mut diagram =
        "```mermaid\nstateDiagram-v2\n    [*] --> PENDING: event accepted\n".to_owned();
    for ((from, to), names) in edges {
        let (from, to) = (Status::ALL[from].as_str(), Status::ALL[to].as_str());
        diagram += &format!("    {from} --> {to}: {}\n", names.join(", "));
    }
    diagram += "```\n";
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(
        readme.contains(&diagram),
        "README.md must contain:\n{diagram}"
    );
}
