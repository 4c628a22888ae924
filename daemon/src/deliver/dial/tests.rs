//! Races between addresses that connect, fail or are silent, on a clock that advances only while tests wait.

use super::*;
use rustix::io::Errno;
use std::future::{pending, ready};
use std::sync::Mutex;
use tokio::time::sleep;

fn addresses(texts: &[&str]) -> VecDeque<SocketAddr> {
    in_turn(texts.iter().map(|text| text.parse().unwrap()))
}

const V4: &str = "192.0.2.1:443";
const V6: &str = "[2001:db8::1]:443";

/// What an address does when it is connected to.
#[derive(Clone, Copy)]
enum Does {
    Connect(u64),
    Fail(Errno),
    Nothing,
}

/// Dials, and returns the addresses in the order they were tried, with the milliseconds since the start, and the
/// outcome.
async fn race(
    list: &[&str],
    late: impl Future<Output = Vec<SocketAddr>>,
    does: impl Fn(&str) -> Does,
) -> (Vec<(String, u128)>, Result<String, Missed>, u128) {
    let begin = clock::deadline(Duration::ZERO);
    let tried = Mutex::new(Vec::new());
    let connect = |address: SocketAddr| {
        let text = address.to_string();
        let does = does(&text);
        let after = begin.elapsed().as_millis();
        tried.lock().unwrap().push((text.clone(), after));
        async move {
            match does {
                Does::Connect(after_ms) => sleep(Duration::from_millis(after_ms)).await,
                Does::Fail(errno) => return Err(errno.into()),
                Does::Nothing => pending().await,
            }
            Ok(text)
        }
    };
    let deadline = clock::deadline(Duration::from_secs(5));
    let outcome = dial(addresses(list), late, deadline, connect).await;
    let took = begin.elapsed().as_millis();
    (tried.into_inner().unwrap(), outcome, took)
}

fn no_more() -> impl Future<Output = Vec<SocketAddr>> {
    ready(Vec::new())
}

#[test]
fn families_take_turns_beginning_with_ipv6() {
    let list = ["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[a::]:1", "[b::]:1"];
    let expected = ["[a::]:1", "1.1.1.1:1", "[b::]:1", "2.2.2.2:1", "3.3.3.3:1"];
    let expected: Vec<SocketAddr> = expected.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(addresses(&list), expected);
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_of_one_family_costs_a_quarter_of_a_second() {
    for (dead, good) in [(V6, V4), (V4, V6)] {
        let does = |address: &str| match address == dead {
            true => Does::Nothing,
            false => Does::Connect(1),
        };
        let (_, outcome, took) = race(&[V4, V6], no_more(), does).await;
        assert_eq!(outcome.unwrap(), good);
        assert_eq!(took, if dead == V6 { 251 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_address_follows_a_refusal_at_once() {
    let does = |address: &str| match address == V6 {
        true => Does::Fail(Errno::CONNREFUSED),
        false => Does::Connect(0),
    };
    let (tried, outcome, took) = race(&[V4, V6], no_more(), does).await;
    assert_eq!((outcome.unwrap().as_str(), took), (V4, 0));
    assert_eq!(tried.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn attempts_start_a_quarter_of_a_second_apart_and_the_first_to_connect_wins() {
    let does = |address: &str| match address {
        "[2001:db8::1]:443" => Does::Connect(900),
        "192.0.2.1:443" => Does::Connect(300),
        _ => Does::Connect(4_000),
    };
    let list = [V4, V6, "192.0.2.2:443"];
    let (tried, outcome, took) = race(&list, no_more(), does).await;
    let starts: Vec<u128> = tried.iter().map(|(_, after)| *after).collect();
    assert_eq!(starts, [0, 250, 500]);
    assert_eq!((outcome.unwrap().as_str(), took), (V4, 550));
}

#[tokio::test(start_paused = true)]
async fn when_time_is_over_each_address_is_named_with_what_it_did() {
    let does = |address: &str| match address == V6 {
        true => Does::Fail(Errno::HOSTUNREACH),
        false => Does::Nothing,
    };
    let (_, outcome, took) = race(&[V4, V6], no_more(), does).await;
    let missed = outcome.unwrap_err();
    assert_eq!((missed.fault, took), (Fault::Partner, 5_000));
    let expected = "[2001:db8::1]:443 can't be reached: the network reports the host as unreachable; 192.0.2.1:443 did not answer in time";
    assert_eq!(missed.why, expected);
}

#[tokio::test(start_paused = true)]
async fn no_more_addresses_are_tried_than_the_bound_and_the_text_is_bounded() {
    let many: Vec<String> = (0..200).map(|n| format!("192.0.2.{n}:443")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (tried, outcome, _) =
        race(&many, no_more(), |_: &str| Does::Fail(Errno::CONNREFUSED)).await;
    assert_eq!(tried.len(), MAX_ADDRESSES);
    let why = outcome.unwrap_err().why;
    assert!(why.ends_with("192 more addresses were not tried"), "{why}");
    assert!(why.len() < 500, "{} bytes", why.len());
}

#[tokio::test(start_paused = true)]
async fn an_address_learnt_late_joins_the_race() {
    let late = async {
        sleep(Duration::from_millis(60)).await;
        vec![V6.parse().unwrap(), V4.parse().unwrap()]
    };
    let does = |address: &str| match address == V4 {
        true => Does::Nothing,
        false => Does::Connect(1),
    };
    let (tried, outcome, took) = race(&[V4], late, does).await;
    assert_eq!((outcome.unwrap().as_str(), took), (V6, 251));
    assert_eq!(tried.len(), 2, "one known already is not tried twice");
}

#[tokio::test(start_paused = true)]
async fn late_addresses_are_waited_for_where_all_others_failed() {
    let late = async {
        sleep(Duration::from_millis(700)).await;
        vec![V6.parse().unwrap()]
    };
    let does = |address: &str| match address == V4 {
        true => Does::Fail(Errno::CONNREFUSED),
        false => Does::Connect(1),
    };
    let (_, outcome, took) = race(&[V4], late, does).await;
    assert_eq!((outcome.unwrap().as_str(), took), (V6, 701));
}

#[tokio::test(start_paused = true)]
async fn our_own_shortage_is_told_apart() {
    let does = |_: &str| Does::Fail(Errno::MFILE);
    let (_, outcome, _) = race(&[V4, V6], no_more(), does).await;
    let missed = outcome.unwrap_err();
    assert_eq!(missed.fault, Fault::Ours);
    assert!(
        missed.why.contains("no free file descriptor"),
        "{}",
        missed.why
    );
}
