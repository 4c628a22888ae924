//! Section 7 of the contract and faults around the store: typos, wrong directories and files, a full disk. Each is a
//! clear error, and nothing is lost.

use crate::support::{Daemon, Receiver, Setup, binary, until};
use serde_json::json;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Returns the store's file: the largest one in the data directory.
fn store_file(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file());
    files
        .max_by_key(|path| path.metadata().unwrap().len())
        .expect("a store file")
}

/// Returns a stopped daemon whose store holds some hundred events.
async fn filled() -> (Setup, Vec<String>) {
    let mut daemon = Daemon::start().await;
    let receiver = Receiver::start().await;
    let api = daemon.client();
    api.endpoint(&receiver.url("/"), &["*"]).await;
    let text: String = (0..300)
        .map(|n| {
            let data = format!("{n}-{}", "x".repeat(500));
            json!({"organizationId": "org_1", "type": "a.b", "data": data}).to_string() + "\n"
        })
        .collect();
    let ids: Vec<_> = api
        .batch(&text)
        .await
        .iter()
        .map(|a| a["id"].as_str().unwrap().to_owned())
        .collect();
    receiver.wait_for(300).await;
    until("all are settled", async || {
        (api.stats("").await["delivery.success.count"] == 300).then_some(())
    })
    .await;
    assert!(daemon.stop().await.success());
    (daemon.into_setup(), ids)
}

fn config_of(setup: &Setup) -> String {
    setup.write_config().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_typo_in_the_configuration_names_the_nearest_key() {
    for (key, value, nearest) in [
        ("delivery.timeuot", r#""5s""#, "timeout"),
        ("retry.shedule", r#"["1m"]"#, "schedule"),
        ("listne", r#""127.0.0.1:0""#, "listen"),
        ("limit.event_bytes", r#""1KiB""#, "limits"),
    ] {
        let refused = Setup::new().set(key, value).try_start().await.err();
        let refused = refused.unwrap_or_else(|| panic!("started with {key}"));
        assert!(!refused.status.success());
        let typo = key.rsplit('.').next().unwrap();
        let named = refused.log.contains(typo) || refused.log.contains("limit");
        assert!(
            named && refused.log.contains(nearest),
            "{key}: {}",
            refused.log
        );
    }
}

#[tokio::test]
async fn a_bad_value_in_the_configuration_names_its_key() {
    for (key, value) in [
        ("delivery.timeout", r#""5""#),
        ("delivery.timeout", r#""5 parsecs""#),
        ("delivery.timeout", "5"),
        ("delivery.timeout", r#""-5s""#),
        ("delivery.timeout", r#""99999999999999999999d""#),
        ("limits.event_bytes", r#""256 bananas""#),
        ("limits.event_bytes", "true"),
        ("retry.jitter", "-0.1"),
        ("retry.jitter", "nan"),
        ("target.allow", r#"["127.0.0.0/99"]"#),
        ("delivery.max_in_flight", "0"),
        ("delivery.signature_header", r#""bad name""#),
        ("listen", r#""nowhere""#),
        ("log.level", r#""loud""#),
    ] {
        let refused = Setup::new().set(key, value).try_start().await.err();
        let refused = refused.unwrap_or_else(|| panic!("started with {key} = {value}"));
        let name = key.rsplit('.').next().unwrap();
        assert!(
            refused.log.contains(name),
            "{key} = {value}: {}",
            refused.log
        );
    }
}

#[tokio::test]
async fn the_environment_goes_over_the_file() {
    let setup = Setup::new()
        .set("limits.event_bytes", r#""1KiB""#)
        .env("STORMHOOK_LIMITS__EVENT_BYTES", "2KiB");
    let daemon = setup.start().await;
    let body =
        |bytes: usize| json!({"organizationId": "o", "type": "a", "data": "x".repeat(bytes)});
    daemon
        .client()
        .post("/v1/events", body(1500))
        .await
        .expect(202);
    daemon
        .client()
        .post("/v1/events", body(2500))
        .await
        .problem(413, "event_too_large");
    let refused = Setup::new()
        .env("STORMHOOK_LIMITS__EVENT_BITES", "2KiB")
        .try_start()
        .await;
    assert!(
        refused
            .err()
            .expect("an unknown key")
            .log
            .to_lowercase()
            .contains("event_bytes")
    );
}

#[tokio::test]
async fn a_second_daemon_on_the_same_file_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start().await;
    let second = Setup::new();
    let data = format!("{:?}", daemon.setup.data_dir());
    let refused = second
        .set("data_dir", &data)
        .try_start()
        .await
        .err()
        .expect("one at a time");
    assert!(!refused.status.success());
    assert!(!refused.log.is_empty());
    daemon.client().event("a.b", json!(1)).await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    // A mode does not stop root; a file in place of the directory does.
    let setup = Setup::new();
    let file = setup.folder().join("file");
    std::fs::write(&file, "").unwrap();
    let inside = format!("{:?}", file.join("data"));
    let refused = setup
        .set("data_dir", &inside)
        .try_start()
        .await
        .err()
        .expect("no folder");
    assert!(
        refused.log.contains(file.to_str().unwrap()),
        "{}",
        refused.log
    );
    let refused = Setup::new()
        .set("data_dir", r#""/proc/stormhook""#)
        .try_start()
        .await
        .err();
    assert!(
        refused
            .expect("/proc takes no folder")
            .log
            .contains("/proc/stormhook")
    );
}

#[tokio::test]
async fn check_passes_on_a_sound_store_and_changes_nothing() {
    let (setup, _) = filled().await;
    let file = store_file(&setup.data_dir());
    let before = std::fs::read(&file).unwrap();
    let output = setup.run(&["check", "--config", &config_of(&setup)]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read(&file).unwrap(), before, "read-only");
}

/// Damages the file. Then either `check` exits 1 and reports it, or nothing that was stored is missing or changed.
/// Nothing is ever lost silently.
async fn damage_is_reported_or_harmless(damage: impl Fn(&Path), what: &str) {
    let (setup, ids) = filled().await;
    damage(&store_file(&setup.data_dir()));
    let output = setup.run(&["check", "--config", &config_of(&setup)]).await;
    if output.status.code() == Some(1) {
        assert!(
            !output.stdout.is_empty() || !output.stderr.is_empty(),
            "{what}: {output:?}"
        );
        return;
    }
    assert!(output.status.success(), "{what}: {output:?}");
    let daemon = setup.start().await;
    for (n, id) in ids.iter().enumerate() {
        let shown = daemon
            .client()
            .get(&format!("/v1/events/{id}"))
            .await
            .expect(200);
        let data = shown["data"].as_str().unwrap();
        assert!(
            data.starts_with(&format!("{n}-x")) && data.len() >= 500,
            "{what}: {shown}"
        );
    }
}

#[tokio::test]
async fn a_truncated_file_is_never_taken_for_a_whole_one() {
    for share in [0, 10, 50, 90] {
        let what = format!("{share} % of the file");
        let cut = |path: &Path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length * share / 100).unwrap();
        };
        if share == 0 {
            // An empty file could be a new one: the daemon may start on it, but not report that the store still holds
            // its contents.
            continue;
        }
        damage_is_reported_or_harmless(cut, &what).await;
    }
}

#[tokio::test]
async fn flipped_bits_are_reported_and_never_skipped() {
    for step in [3, 7, 11, 13] {
        let flip = |path: &Path| {
            let mut file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let length = file.metadata().unwrap().len();
            for part in 1..16 {
                let at = length * part / 16 + step * 97;
                let mut byte = [0];
                file.seek(SeekFrom::Start(at.min(length - 1))).unwrap();
                file.read_exact(&mut byte).unwrap();
                file.seek(SeekFrom::Start(at.min(length - 1))).unwrap();
                file.write_all(&[byte[0] ^ 0x10]).unwrap();
            }
        };
        damage_is_reported_or_harmless(flip, &format!("step {step}")).await;
    }
}

#[tokio::test]
async fn a_file_without_a_byte_is_damage_and_no_new_store() {
    let (setup, _) = filled().await;
    let store = setup.data_dir().join("stormhook.redb");
    std::fs::write(&store, b"").unwrap();
    let refused = setup.try_start().await.err().expect("it is refused");
    assert!(refused.log.contains("it is empty"), "{}", refused.log);
}

#[tokio::test]
async fn a_file_of_a_newer_engine_is_called_newer() {
    let (setup, _) = filled().await;
    let store = setup.data_dir().join("stormhook.redb");
    let mut bytes = std::fs::read(&store).unwrap();
    // The offsets of the version of each of redb's two commit slots in the header.
    bytes[64] = 9;
    bytes[192] = 9;
    std::fs::write(&store, bytes).unwrap();
    let refused = setup.try_start().await.err().expect("it is refused");
    assert!(refused.log.contains("newer version"), "{}", refused.log);
    assert!(!refused.log.contains("panicked"), "{}", refused.log);
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let (setup, _) = filled().await;
    let path = store_file(&setup.data_dir());
    std::fs::write(&path, "this is a letter to my aunt\n".repeat(1000)).unwrap();
    let refused = setup.try_start().await.err().expect("not a store");
    assert!(!refused.log.is_empty());
    assert!(std::fs::read_to_string(&path).unwrap().contains("my aunt"));
}

/// Runs the daemon on a tmpfs of 24 MiB in its own mount namespace, if that is permitted.
#[tokio::test]
async fn a_full_disk_refuses_events_and_loses_none_that_were_accepted() {
    let allowed = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("skipped: mounting in a namespace of its own is not permitted here");
        return;
    }
    let setup = Setup::new().set("limits.disk_reserve", r#""4MiB""#);
    std::fs::create_dir(setup.folder().join("disk")).unwrap();
    let disk = setup.folder().join("disk");
    let data = format!("{:?}", disk.join("data"));
    let setup = setup.set("data_dir", &data);
    let config = setup.write_config();
    let script =
        r#"mount -t tmpfs -o size=24m,mode=700 tmpfs "$1" && exec "$2" serve --config "$3""#;
    let log = std::fs::File::create(setup.folder().join("log")).unwrap();
    let mut child = setup
        .program("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([disk.as_os_str(), binary().as_os_str(), config.as_os_str()])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let api = crate::support::Client::unix(setup.socket());
    until("the daemon serves", async || {
        api.call("GET", "/readyz")
            .try_send()
            .await
            .ok()
            .filter(|a| a.status == 200)
    })
    .await;
    let mut draw = crate::support::Draw::seeded(7);
    let mut accepted = Vec::new();
    let full = until("the disk is full", async || {
        // Not compressible, so that it fills the disk.
        let noise: String = (0..6000).map(|_| format!("{:016x}", draw.next())).collect();
        let body = json!({"organizationId": "o", "type": "a", "data": noise});
        let answer = api.post("/v1/events", body).await;
        if answer.status == 202 {
            accepted.push(answer.json()["id"].as_str().unwrap().to_owned());
            return None;
        }
        Some(answer)
    })
    .await;
    full.problem(503, "storage_full");
    assert!(!accepted.is_empty());
    for id in &accepted {
        api.get(&format!("/v1/events/{id}")).await.expect(200);
    }
    api.get("/healthz").await.expect_ok();
    child.start_kill().unwrap();
    child.wait().await.unwrap();
}
