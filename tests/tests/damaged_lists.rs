//! Lists and exports of a store with a damaged row: the row is named, and everything else is shown.

use crate::support::{Client, Receiver, Reply, Setup, encode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The first bytes of every zstd frame (RFC 8878).
const FRAME: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Changes two bits in each copy of the pack at this position in time. Its frame is preceded by the id of its last
/// event and a length.
fn damage_pack(store: &Path, place: usize) {
    let mut bytes = std::fs::read(store).unwrap();
    let mut packs: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let frames = (20..bytes.len() - 4).filter(|at| bytes[*at..*at + 4] == FRAME);
    for at in frames {
        let last = bytes[at - 20..at - 4].to_vec();
        packs.entry(last).or_default().push(at);
    }
    for at in packs.values().nth(place).expect("the pack is there") {
        bytes[at + 12] ^= 3;
    }
    std::fs::write(store, bytes).unwrap();
}

/// Returns the rows and the named damage, over all pages of a list.
async fn pages(api: &Client, path: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut rows, mut damaged, mut cursor) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{path}{cursor}")).await.expect(200);
        rows.extend(page["data"].as_array().unwrap().iter().cloned());
        let named = page.get("damaged").and_then(Value::as_array);
        damaged.extend(named.into_iter().flatten().cloned());
        let Some(next) = page["nextCursor"].as_str() else {
            return (rows, damaged);
        };
        cursor = format!("&cursor={}", encode(next));
    }
}

#[tokio::test]
async fn a_damaged_pack_is_named_by_lists_and_exports_which_go_on_past_it() {
    let mut daemon = Setup::new().start().await;
    let receiver = Receiver::answering(Reply::Status(200)).await;
    let api = daemon.client();
    let endpoint = api.endpoint(&receiver.url("/"), &["*"]).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let event = api.event("a.b", json!(n)).await;
        api.delivery_when(&event, "SUCCESS").await;
        ids.push(event);
    }
    assert!(daemon.stop().await.success());
    let store = daemon.setup.data_dir().join("stormhook.redb");
    damage_pack(&store, 2);
    daemon.start_again().await;

    let api = daemon.client();
    let expected: Vec<&String> = ids.iter().rev().filter(|id| **id != ids[2]).collect();
    for limit in [1, 2, 50] {
        let (events, damaged) = pages(&api, &format!("/v1/events?limit={limit}")).await;
        let listed: Vec<_> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
        assert_eq!(listed, expected, "{limit} a page");
        let [named] = &damaged[..] else {
            panic!("{damaged:?}");
        };
        assert_eq!(named["fromEvent"], json!(ids[2]));
        assert_eq!(named["beforeEvent"], json!(ids[3]));
        let detail = named["detail"].as_str().unwrap();
        assert!(detail.contains("its checksum is wrong"), "{detail}");

        let of_endpoint = format!("endpointId={}&", endpoint["id"].as_str().unwrap());
        for filter in ["", &of_endpoint, "status=SUCCESS&", "eventType=a.b&"] {
            let path = format!("/v1/deliveries?{filter}limit={limit}");
            let (deliveries, damaged) = pages(&api, &path).await;
            let listed: Vec<_> = deliveries
                .iter()
                .map(|d| d["eventId"].as_str().unwrap())
                .collect();
            assert_eq!(listed, expected, "{path}");
            assert_eq!(damaged.len(), 1, "{path}: {damaged:?}");
            let id = damaged[0]["id"].as_str().unwrap();
            assert!(id.starts_with("dlv_"), "{path}: {id}");
        }
    }
    let socket = daemon.setup.socket();
    let socket = socket.to_str().unwrap();
    let listed = daemon
        .setup
        .run(&["event", "list", "--all", "--socket", socket])
        .await;
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.success(), "{said}");
    let named = format!("can't show any rows from {} up to {}", ids[2], ids[3]);
    assert!(said.contains(&named), "{said}");

    assert!(daemon.stop().await.success());
    let exported = daemon
        .setup
        .run(&["export", "--from", store.to_str().unwrap()])
        .await;
    let said = String::from_utf8_lossy(&exported.stderr);
    assert_eq!(exported.status.code(), Some(1), "{said}");
    assert!(said.contains("1 place could not be read"), "{said}");
    let lines: Vec<Value> = String::from_utf8_lossy(&exported.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |object: &str| lines.iter().filter(|l| l["object"] == object).count();
    assert_eq!([of("event"), of("delivery"), of("damage")], [5, 5, 1]);
    let end = lines.last().unwrap();
    assert_eq!(
        (&end["object"], &end["damaged"]),
        (&json!("end"), &json!(1))
    );
}
