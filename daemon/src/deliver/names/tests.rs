//! Look-ups against the tests' own name servers on the loopback address, over UDP and TCP.

use super::*;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use std::future::pending;
use std::io::Write as _;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::sleep;

/// What a server does when it is asked for a name.
#[derive(Clone)]
pub(in crate::deliver) enum Says {
    /// It never answers.
    Nothing,
    /// It returns these addresses, if they are of the family that is asked for.
    Addresses(&'static [&'static str], u32),
    /// It returns these addresses, but those of this family only after so many milliseconds; `u64::MAX` for never.
    Late(RecordType, u64, &'static [&'static str]),
    Code(ResponseCode),
    /// It returns this alias and its address.
    Alias(&'static str, &'static str),
    /// It answers over UDP that the answer doesn't fit.
    OverTcp(&'static [&'static str]),
}

/// A name server, and what it was asked, in order.
pub(in crate::deliver) struct Server {
    pub(in crate::deliver) address: SocketAddr,
    pub(in crate::deliver) asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

impl Server {
    pub(in crate::deliver) async fn start(
        says: impl Fn(&str) -> Says + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The port may be in use over TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let says = Arc::new(says);
        let (noted, answers) = (asked.clone(), says.clone());
        tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((n, from)) = udp.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..n]).unwrap();
                let (udp, noted, answers) = (udp.clone(), noted.clone(), answers.clone());
                tokio::spawn(async move {
                    let answer = answer(&query, &noted, &*answers, true).await;
                    udp.send_to(&answer, from).await.unwrap();
                });
            }
        });
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let (noted, says) = (noted.clone(), says.clone());
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut buffer = vec![0; length.into()];
                        stream.read_exact(&mut buffer).await.unwrap();
                        let query = Message::from_vec(&buffer).unwrap();
                        let answer = answer(&query, &noted, &*says, false).await;
                        let length = u16::try_from(answer.len()).unwrap();
                        stream.write_u16(length).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self, name: &str, kind: RecordType) -> usize {
        let asked = self.asked.lock().unwrap();
        let same = asked.iter().filter(|(n, k)| n == name && *k == kind);
        same.count()
    }
}

async fn answer(
    query: &Message,
    asked: &Mutex<Vec<(String, RecordType)>>,
    says: &(dyn Fn(&str) -> Says + Send + Sync),
    over_udp: bool,
) -> Vec<u8> {
    let question = query.queries[0].clone();
    let (name, kind) = (question.name().clone(), question.query_type());
    let text = name.to_string();
    asked.lock().unwrap().push((text.clone(), kind));
    let mut message = Message::new(query.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(question);
    let mut add = |owner: &Name, addresses: &[&str], ttl| {
        for address in addresses {
            let data = RData::from(address.parse::<IpAddr>().unwrap());
            if data.record_type() == kind {
                message.add_answer(Record::from_rdata(owner.clone(), ttl, data));
            }
        }
    };
    match says(&text) {
        Says::Nothing => pending().await,
        Says::Addresses(addresses, ttl) => add(&name, addresses, ttl),
        Says::Late(late, after_ms, addresses) => {
            if late == kind {
                match after_ms {
                    u64::MAX => pending().await,
                    after_ms => sleep(Duration::from_millis(after_ms)).await,
                }
            }
            add(&name, addresses, 300);
        }
        Says::Code(code) => message.metadata.response_code = code,
        Says::Alias(alias, address) => {
            let alias = Name::from_ascii(alias).unwrap();
            let stranger = Name::from_ascii("stranger.test.").unwrap();
            add(&stranger, &["192.0.2.66"], 300);
            add(&alias, &[address], 300);
            let data = RData::CNAME(CNAME(alias));
            message
                .answers
                .insert(0, Record::from_rdata(name.clone(), 7, data));
        }
        Says::OverTcp(addresses) if !over_udp => add(&name, addresses, 300),
        Says::OverTcp(_) => message.metadata.truncation = true,
    }
    message.to_vec().unwrap()
}

const PATIENCE: Duration = Duration::from_secs(2);

/// Returns names looked up by these servers, with the text of a `resolv.conf` and a `hosts`.
fn names_with(servers: &[&Server], resolv: &str, hosts: &str) -> (Names, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let sources = Sources {
        resolv: file("resolv.conf", resolv),
        hosts: file("hosts", hosts),
        servers: servers.iter().map(|server| server.address).collect(),
    };
    (Names::new(sources, PATIENCE), folder)
}

fn names(server: &Server) -> Names {
    // No search list: the machine's own is not used here.
    names_with(&[server], "options ndots:0", "").0
}

async fn found(names: &Names, name: &str) -> Result<Vec<String>, Unresolved> {
    let deadline = clock::deadline(PATIENCE);
    let resolved = names.look_up(name, deadline).await?;
    let addresses = resolved.addresses.iter().map(ToString::to_string);
    Ok(addresses.collect())
}

async fn why(names: &Names, name: &str) -> String {
    match found(names, name).await {
        Err(Unresolved::Theirs(why)) => why,
        other => panic!("{name}: {other:?}"),
    }
}

const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";
const BOTH: Says = Says::Addresses(&[V4, V6], 300);

#[tokio::test]
async fn all_addresses_of_both_families_are_found() {
    let server = Server::start(|_| BOTH).await;
    let mut addresses = found(&names(&server), "web.test").await.unwrap();
    addresses.sort();
    assert_eq!(addresses, [V4, V6]);
}

#[tokio::test]
async fn a_name_of_one_family_needs_no_other() {
    for only in [V4, V6] {
        let server = Server::start(move |_| match only {
            V4 => Says::Addresses(&[V4], 300),
            _ => Says::Addresses(&[V6], 300),
        })
        .await;
        assert_eq!(found(&names(&server), "web.test").await.unwrap(), [only]);
    }
}

#[tokio::test]
async fn a_family_that_nobody_answers_for_does_not_hold_up_the_other() {
    for (silent, other) in [(RecordType::AAAA, V4), (RecordType::A, V6)] {
        let says = move |_: &str| Says::Late(silent, u64::MAX, &[V4, V6]);
        let server = Server::start(says).await;
        let names = names(&server);
        assert_eq!(found(&names, "web.test").await.unwrap(), [other]);
        // The look-up waits a little longer and keeps the answer: the next one doesn't wait.
        let all = names.look_up("web.test", clock::deadline(PATIENCE)).await;
        assert_eq!(all.unwrap().late().await.map(|all| all.len()), Some(1));
        assert_eq!(found(&names, "web.test").await.unwrap(), [other]);
        let family = if silent == RecordType::A {
            RecordType::AAAA
        } else {
            RecordType::A
        };
        assert_eq!(server.asked("web.test.", family), 1);
    }
}

#[tokio::test]
async fn a_family_that_is_answered_late_comes_late() {
    let server = Server::start(|_| Says::Late(RecordType::AAAA, 300, &[V4, V6])).await;
    let names = names(&server);
    let resolved = names.look_up("web.test", clock::deadline(PATIENCE)).await;
    let resolved = resolved.unwrap();
    assert_eq!(resolved.addresses.len(), 1);
    assert_eq!(resolved.late().await.unwrap().len(), 2);
    assert_eq!(found(&names, "web.test").await.unwrap().len(), 2, "kept");
    assert_eq!(server.asked("web.test.", RecordType::A), 1);
}

#[tokio::test]
async fn who_asks_for_the_same_name_shares_one_look_up_and_its_answer_is_kept() {
    let server = Server::start(|_| Says::Late(RecordType::A, 40, &[V4])).await;
    let names = names(&server);
    let many = (0..100).map(|_| found(&names, "web.test"));
    for addresses in futures_util::future::join_all(many).await {
        assert_eq!(addresses.unwrap(), [V4]);
    }
    found(&names, "web.test").await.unwrap();
    assert_eq!(server.asked("web.test.", RecordType::A), 1);
}

#[tokio::test]
async fn failures_are_shared_and_kept_and_say_what_happened() {
    let server = Server::start(|name| match name {
        "nxdomain.test." => Says::Code(ResponseCode::NXDomain),
        "servfail.test." => Says::Code(ResponseCode::ServFail),
        "refused.test." => Says::Code(ResponseCode::Refused),
        _ => Says::Addresses(&[], 0),
    })
    .await;
    let names = names(&server);
    for (name, says) in [
        ("nxdomain.test", "the name does not exist"),
        ("empty.test", "the name has no address"),
        ("servfail.test", "the name server answered: Server Failure"),
        ("refused.test", "the name server answered: Query Refused"),
    ] {
        let (first, second) = tokio::join!(why(&names, name), why(&names, name));
        assert_eq!(first, second);
        assert!(first.contains(says) && first.contains(name), "{first}");
        let asked = server.asked(&format!("{name}."), RecordType::A);
        assert_eq!(why(&names, name).await, first);
        let again = server.asked(&format!("{name}."), RecordType::A);
        assert_eq!(asked, again, "{name} was kept");
    }
}

#[tokio::test]
async fn dead_names_leave_room_for_each_healthy_one() {
    let server = Server::start(|name| match name.contains("dead") {
        true => Says::Nothing,
        false => Says::Addresses(&[V4], 300),
    })
    .await;
    let names = names(&server);
    assert_eq!(found(&names, "known.test").await.unwrap(), [V4]);
    let dead: Vec<_> = (0..400)
        .map(|n| {
            let names = names.clone();
            tokio::spawn(async move { found(&names, &format!("{n}.dead.test")).await })
        })
        .collect();
    // Each has asked for its slot.
    tokio::task::yield_now().await;
    names.0.lock().cache.forget_answers();
    assert_eq!(found(&names, "known.test").await.unwrap(), [V4]);
    for one in dead {
        match one.await.unwrap() {
            Err(Unresolved::Theirs(why)) => {
                assert!(why.contains("no name server answered"), "{why}");
            }
            Err(Unresolved::Ours(why)) => assert!(why.contains("too many look-ups"), "{why}"),
            Ok(addresses) => panic!("{addresses:?}"),
        }
    }
    assert_eq!(found(&names, "new.test").await.unwrap(), [V4]);
}

#[tokio::test]
async fn a_look_up_that_nobody_waits_for_any_more_gives_its_place_back() {
    let server = Server::start(|name| match name.contains("dead") {
        true => Says::Nothing,
        false => Says::Addresses(&[V4], 300),
    })
    .await;
    let names = names(&server);
    for round in 0..4 {
        let many = (0..200).map(|n| {
            let name = format!("{round}-{n}.dead.test");
            let names = names.clone();
            async move {
                drop(tokio::time::timeout(Duration::from_millis(1), found(&names, &name)).await);
            }
        });
        futures_util::future::join_all(many).await;
        // More than there are slots, and none of them is answered.
        let name = format!("new-{round}.test");
        assert_eq!(found(&names, &name).await.unwrap(), [V4]);
    }
}

#[tokio::test]
async fn what_does_not_fit_into_a_packet_is_asked_for_over_tcp() {
    let server = Server::start(|_| Says::OverTcp(&[V4])).await;
    assert_eq!(found(&names(&server), "web.test").await.unwrap(), [V4]);
    assert_eq!(server.asked("web.test.", RecordType::A), 2);
}

#[tokio::test]
async fn an_alias_leads_to_its_address_and_no_other() {
    let server = Server::start(|_| Says::Alias("other.test.", V4)).await;
    assert_eq!(found(&names(&server), "web.test").await.unwrap(), [V4]);
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_has_trouble_or_is_silent() {
    for first in [
        Says::Code(ResponseCode::ServFail),
        Says::Code(ResponseCode::Refused),
        Says::Nothing,
    ] {
        let silent = Server::start(move |_| first.clone()).await;
        let good = Server::start(|_| Says::Addresses(&[V4], 300)).await;
        let (names, _folder) = names_with(&[&silent, &good], "options ndots:0", "");
        assert_eq!(found(&names, "web.test").await.unwrap(), [V4]);
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_not_asked_of_the_next_server() {
    let first = Server::start(|_| Says::Code(ResponseCode::NXDomain)).await;
    let second = Server::start(|_| BOTH).await;
    let (names, _folder) = names_with(&[&first, &second], "options ndots:0", "");
    assert!(why(&names, "web.test").await.contains("does not exist"));
    assert_eq!(second.asked("web.test.", RecordType::A), 0);
}

#[tokio::test]
async fn the_search_list_the_hosts_file_and_localhost_are_followed() {
    let server = Server::start(|name| match name {
        "web.b.test." => Says::Addresses(&[V4], 300),
        "here." | "localhost." => Says::Addresses(&["192.0.2.99"], 300),
        _ => Says::Code(ResponseCode::NXDomain),
    })
    .await;
    let hosts = "192.0.2.7 here\n";
    let (names, _folder) = names_with(&[&server], "search a.test b.test", hosts);
    assert_eq!(found(&names, "web").await.unwrap(), [V4]);
    assert_eq!(server.asked("web.a.test.", RecordType::A), 1);
    assert!(why(&names, "web.").await.contains("does not exist"));
    assert_eq!(found(&names, "here").await.unwrap(), ["192.0.2.7"]);
    let local = ["127.0.0.1", "::1"].map(str::to_owned);
    assert_eq!(found(&names, "localhost").await.unwrap(), local);
    assert_eq!(server.asked("localhost.", RecordType::A), 0);
}

#[tokio::test]
async fn a_changed_file_is_read_again_and_answers_are_forgotten() {
    let server = Server::start(|_| Says::Addresses(&[V4], 300)).await;
    let (names, folder) = names_with(&[&server], "options ndots:0", "192.0.2.7 web.test\n");
    assert_eq!(found(&names, "web.test").await.unwrap(), ["192.0.2.7"]);
    let hosts = folder.path().join("hosts");
    let mut file = std::fs::File::options().append(true).open(hosts).unwrap();
    file.write_all(b"192.0.2.8 web.test other.test\n").unwrap();
    // As if it were time to check.
    names.0.lock().check_files = clock::deadline(Duration::ZERO);
    assert_eq!(found(&names, "other.test").await.unwrap(), ["192.0.2.8"]);
    let both = ["192.0.2.7", "192.0.2.8"].map(str::to_owned);
    assert_eq!(found(&names, "web.test").await.unwrap(), both);
}

#[tokio::test]
async fn while_a_changed_file_cannot_be_read_what_was_read_before_holds() {
    let server = Server::start(|_| Says::Addresses(&[V4], 300)).await;
    let (names, folder) = names_with(&[&server], "options ndots:0", "192.0.2.7 web.test\n");
    let hosts = folder.path().join("hosts");
    // A directory can't be read as a file, by root neither.
    std::fs::remove_file(&hosts).unwrap();
    std::fs::create_dir(&hosts).unwrap();
    names.0.lock().check_files = clock::deadline(Duration::ZERO);
    assert_eq!(found(&names, "web.test").await.unwrap(), ["192.0.2.7"]);
    assert_eq!(server.asked("web.test.", RecordType::A), 0);
    // A file that is gone has nothing more to say.
    std::fs::remove_dir(&hosts).unwrap();
    names.0.lock().check_files = clock::deadline(Duration::ZERO);
    assert_eq!(found(&names, "other.test").await.unwrap(), [V4]);
    assert_eq!(found(&names, "web.test").await.unwrap(), [V4]);
}

#[test]
fn answers_are_kept_for_as_long_as_they_say_within_bounds() {
    let seconds = Duration::from_secs;
    let outcome = |result: Result<Vec<IpAddr>, Unknown>, ttl_s, complete| Outcome {
        result,
        ttl: seconds(ttl_s),
        complete,
    };
    let trouble = |trouble| Err(Unknown::Trouble(trouble));
    for (outcome, expected_s) in [
        (outcome(Ok(vec![]), 0, true), 1),
        (outcome(Ok(vec![]), 60, true), 60),
        (outcome(Ok(vec![]), 86_400, true), 300),
        (outcome(Ok(vec![]), 86_400, false), 30),
        (outcome(Err(Unknown::NoName), 0, true), 1),
        (outcome(Err(Unknown::NoAddress), 3_600, true), 5),
        (outcome(trouble(Trouble::Said(String::new())), 0, true), 1),
        (outcome(trouble(Trouble::Silence), 0, true), 0),
        (outcome(trouble(Trouble::Short(String::new())), 0, true), 0),
    ] {
        assert_eq!(outcome.keep(), seconds(expected_s), "{outcome:?}");
    }
}

#[test]
fn what_this_machine_lacks_is_its_own_trouble() {
    let ours = [
        Trouble::Unreachable("can't be reached".to_owned()),
        Trouble::Short("was not tried".to_owned()),
    ];
    for trouble in ours {
        let outcome = Outcome::without(Unknown::Trouble(trouble));
        let told = explained("web.test", &outcome, PATIENCE);
        assert!(matches!(told, Err(Unresolved::Ours(_))), "{told:?}");
    }
}
