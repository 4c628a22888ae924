//! Tests of the target guard: rules, tables, spellings.

use super::*;

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn open() -> TargetPolicy {
    TargetPolicy {
        allow_http: true,
        ..TargetPolicy::default()
    }
}

/// Returns the rule that refuses `raw`, `400` for an invalid URL, `ok` otherwise.
fn verdict(raw: &str, policy: &TargetPolicy) -> &'static str {
    match TargetUrl::parse(raw, policy) {
        Ok(_) => "ok",
        Err(TargetError::NotAUrl(_)) => "400",
        Err(TargetError::Refused(refusal)) => refusal.rule.as_str(),
    }
}

fn expect(policy: &TargetPolicy, cases: &[(&str, &str)]) {
    for (raw, expected) in cases {
        assert_eq!(verdict(raw, policy), *expected, "{raw:?}");
    }
}

#[test]
fn a_plain_https_url_passes_and_is_sent_to_in_its_normal_form() {
    let url = TargetUrl::parse(
        "HTTPS://Partner.Example:443/a b/../c?d=e",
        &TargetPolicy::default(),
    )
    .unwrap();
    assert_eq!(url.as_str(), "https://partner.example/c?d=e");
    assert_eq!(
        (url.host(), url.port(), url.is_https()),
        ("partner.example", 443, true)
    );
    assert_eq!(
        (url.authority(), url.path_and_query()),
        ("partner.example", "/c?d=e")
    );
    assert_eq!((url.name(), url.address()), (Some("partner.example"), None));
    let url = TargetUrl::parse("http://[2606:4700::1111]:8080?x", &open()).unwrap();
    assert_eq!(
        (url.authority(), url.path_and_query()),
        ("[2606:4700::1111]:8080", "/?x")
    );
    assert_eq!(
        (url.address(), url.name()),
        (Some("2606:4700::1111".parse().unwrap()), None)
    );
    assert!(!url.is_https());
}

#[test]
fn what_is_no_url_is_the_callers_mistake() {
    let long = format!("https://a.example/{}", "p".repeat(8_000));
    expect(
        &open(),
        &[
            ("", "400"),
            ("partner.example/hooks", "400"),
            ("/hooks", "400"),
            ("https", "400"),
            ("https://a.example:99999/", "400"),
            ("https://a.example:x/", "400"),
            ("https://[::1/", "400"),
            ("https://[:::1]/", "400"),
            ("https://256.256.256.256/", "400"),
            ("https://a^b.example/", "400"),
            ("https://1.2.3.4.5/", "400"),
            (&long, "400"),
        ],
    );
}

#[test]
fn only_https_passes_unless_http_is_allowed() {
    expect(
        &TargetPolicy::default(),
        &[
            ("https://a.example/", "ok"),
            ("http://a.example/", "scheme"),
            ("ftp://a.example/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("gopher://a.example/", "scheme"),
            ("javascript:alert(1)", "scheme"),
            ("data:text/plain,x", "scheme"),
            ("ws://a.example/", "scheme"),
            ("unix:/run/x.sock", "scheme"),
        ],
    );
    expect(
        &open(),
        &[("http://a.example/", "ok"), ("ws://a.example/", "scheme")],
    );
}

#[test]
fn credentials_and_fragments_are_refused() {
    expect(
        &open(),
        &[
            ("https://user:pass@a.example/", "userinfo"),
            ("https://user@a.example/", "userinfo"),
            ("https://:@a.example/", "userinfo"),
            ("https://a.example@b.example@c.example/", "userinfo"),
            ("https://a.example\\@127.0.0.1/", "ok"),
            ("https://a.example/@b", "ok"),
            ("https://a.example/?q=a@b", "ok"),
            ("https://a.example/#x", "fragment"),
            ("https://a.example/#", "fragment"),
        ],
    );
    // A backslash ends the authority: this goes to a.example, with the rest as its path.
    let url = TargetUrl::parse("https://a.example\\@127.0.0.1/", &open()).unwrap();
    assert_eq!(url.as_str(), "https://a.example/@127.0.0.1/");
}

#[test]
fn every_blocked_port_is_refused_and_its_neighbours_are_not() {
    assert!(tables::BAD_PORTS.is_sorted());
    for port in 0..=u16::MAX {
        let expected = if tables::BAD_PORTS.contains(&port) {
            "port"
        } else {
            "ok"
        };
        assert_eq!(
            verdict(&format!("https://a.example:{port}/"), &open()),
            expected,
            "{port}"
        );
    }
    expect(
        &open(),
        &[
            ("https://a.example:0/", "port"),
            ("https://a.example:22/", "port"),
            ("https://a.example:25/", "port"),
            ("https://a.example:6667/", "port"),
            ("https://a.example:10080/", "port"),
            ("https://a.example:8443/", "ok"),
            ("https://a.example:/", "ok"),
        ],
    );
}

#[test]
fn the_host_is_judged_as_it_was_written() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    expect(
        &open(),
        &[
            ("https://", "host_form"),
            ("https://:443/", "host_form"),
            ("https://?x", "host_form"),
            ("https://user@/", "host_form"),
            ("https://a.exa mple/", "host_form"),
            ("https://a.example /", "host_form"),
            ("https://a.\texample/", "host_form"),
            ("https://\na.example/", "host_form"),
            ("https://a.example\r\n/", "host_form"),
            ("https://a.example\n", "host_form"),
            ("https://a.example\0/", "host_form"),
            ("https://a\u{7f}.example/", "host_form"),
            ("https://a\u{85}.example/", "host_form"),
            ("https://a\u{3000}.example/", "host_form"),
            ("https://%31%32%37.0.0.1/", "host_form"),
            ("https://a%2eexample/", "host_form"),
            ("https://[fe80::1%25eth0]/", "host_form"),
            ("https://[fe80::1%eth0]/", "host_form"),
            ("https://a..example/", "host_form"),
            ("https://./", "host_form"),
            ("https://a.example../", "host_form"),
            (&format!("https://{label}.example/"), "ok"),
            (&format!("https://a{label}.example/"), "host_form"),
            (&format!("https://{longest}/"), "ok"),
            (&format!("https://{longest}./"), "ok"),
            (&format!("https://{longest}b/"), "host_form"),
            // Short as written, too long once it is in ASCII.
            (&format!("https://{}.example/", "ü".repeat(62)), "host_form"),
        ],
    );
}

#[test]
fn every_spelling_of_an_address_is_judged_as_that_address() {
    expect(
        &open(),
        &[
            ("https://127.0.0.1/", "private_v4"),
            ("https://0x7f.1/", "private_v4"),
            ("https://2130706433/", "private_v4"),
            ("https://0177.0.0.1/", "private_v4"),
            ("https://127.1/", "private_v4"),
            ("https://127.0.0.1./", "private_v4"),
            ("https://127。0。0。1/", "private_v4"),
            ("https://127.0.0.1/", "private_v4"),
            ("https://①②⑦.0.0.1/", "private_v4"),
            ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", "private_v4"),
            ("https://0/", "private_v4"),
            ("https:127.0.0.1/", "private_v4"),
            ("https:\\\\127.0.0.1/", "private_v4"),
            ("https:////127.0.0.1/", "private_v4"),
            ("https://[::1]/", "private_v6"),
            ("https://[::ffff:127.0.0.1]/", "private_v6"),
            ("https://[::ffff:7f00:1]/", "private_v6"),
            ("https://[64:ff9b::7f00:1]/", "private_v6"),
            ("https://[2002:7f00:1::]/", "private_v6"),
            ("https://[::127.0.0.1]/", "private_v6"),
            ("https://169.254.169.254/latest/meta-data", "private_v4"),
            ("https://[fd00:ec2::254]/", "private_v6"),
            ("https://8.8.8.8/", "ok"),
            ("https://[2606:4700::1111]/", "ok"),
            ("https://[::ffff:8.8.8.8]/", "ok"),
        ],
    );
}

#[test]
fn local_names_are_refused_with_and_without_a_trailing_dot() {
    for name in [
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "printer.local",
        "a.b.internal",
        "router.home.arpa",
        "home.arpa",
        "intranet",
        "ｌｏｃａｌｈｏｓｔ",
        "com",
    ] {
        assert_eq!(
            verdict(&format!("https://{name}/"), &open()),
            "local_name",
            "{name}"
        );
        assert_eq!(
            verdict(&format!("https://{name}./"), &open()),
            "local_name",
            "{name}."
        );
    }
    for name in [
        "notlocalhost.example",
        "local.example",
        "internal.example",
        "mylocal.example.com",
        "homearpa.example",
    ] {
        assert_eq!(
            verdict(&format!("https://{name}/"), &open()),
            "ok",
            "{name}"
        );
    }
}

#[test]
fn networks_lift_the_address_rules_and_host_patterns_the_local_names_and_neither_more() {
    let policy = TargetPolicy {
        allow: patterns(&["127.0.0.0/8", "fd00::/8", "localhost", "*.internal"]),
        ..open()
    };
    expect(
        &policy,
        &[
            ("http://127.0.0.1:9000/", "ok"),
            ("http://[::ffff:127.0.0.1]:9000/", "ok"),
            ("http://[64:ff9b::7f00:1]/", "ok"),
            ("http://[fd00::1]/", "ok"),
            ("http://10.0.0.1/", "private_v4"),
            ("http://[::1]/", "private_v6"),
            ("http://localhost:9000/", "ok"),
            ("http://a.localhost/", "local_name"),
            ("http://a.internal/", "ok"),
            ("http://internal/", "local_name"),
            ("http://127.0.0.1:22/", "port"),
            ("http://u@127.0.0.1/", "userinfo"),
            ("http://127.0.0.1/#a", "fragment"),
            ("ftp://127.0.0.1/", "scheme"),
        ],
    );
    let url = TargetUrl::parse("http://localhost:9000/", &policy).unwrap();
    assert_eq!(
        policy.judge_all(&url, &["127.0.0.1".parse().unwrap()]),
        Judgement::Allowed
    );
    let names_only = TargetPolicy {
        allow: patterns(&["localhost"]),
        ..open()
    };
    assert!(matches!(
        names_only.judge_all(&url, &["127.0.0.1".parse().unwrap()]),
        Judgement::Refused(_)
    ));
}

#[test]
fn deny_wins_over_allow() {
    let policy = TargetPolicy {
        allow: patterns(&["127.0.0.0/8", "a.internal"]),
        deny: patterns(&["127.0.0.2", "8.8.8.0/24", "*.bad.example", "a.internal"]),
        ..open()
    };
    expect(
        &policy,
        &[
            ("http://127.0.0.1/", "ok"),
            ("http://127.0.0.2/", "deny"),
            ("http://[::ffff:127.0.0.2]/", "deny"),
            ("http://[64:ff9b::808:808]/", "deny"),
            ("http://8.8.8.8/", "deny"),
            ("http://8.8.4.4/", "ok"),
            ("http://x.bad.example/", "deny"),
            ("http://X.BAD.example./", "deny"),
            ("http://bad.example/", "ok"),
            ("http://a.internal/", "deny"),
        ],
    );
}

#[test]
fn a_listener_on_all_addresses_is_recognised_by_the_connection() {
    let judged = |listener: &str, local: &str, peer: &str| {
        let policy = TargetPolicy {
            own_listener: Some(listener.parse().unwrap()),
            ..TargetPolicy::default()
        };
        policy
            .judge_connection(local.parse().unwrap(), peer.parse().unwrap())
            .is_ok()
    };
    let (all, one) = ("0.0.0.0:8650", "192.0.2.1:8650");
    assert!(!judged(all, "192.0.2.1:4711", "192.0.2.1:8650"));
    assert!(!judged(
        "[::]:8650",
        "[2001:db8::1]:4711",
        "[2001:db8::1]:8650"
    ));
    assert!(!judged("[::]:8650", "192.0.2.1:4711", "192.0.2.1:8650"));
    assert!(judged(all, "192.0.2.1:4711", "192.0.2.2:8650"), "elsewhere");
    assert!(
        judged(all, "192.0.2.1:4711", "192.0.2.1:443"),
        "another port"
    );
    assert!(
        judged(one, "192.0.2.3:4711", "192.0.2.3:8650"),
        "not listening there"
    );
}

#[test]
fn the_own_listener_is_refused_in_every_spelling_even_when_allowed() {
    let everything = patterns(&["0.0.0.0/0", "::/0"]);
    let policy = TargetPolicy {
        allow: everything,
        own_listener: Some("127.0.0.1:8650".parse().unwrap()),
        ..open()
    };
    expect(
        &policy,
        &[
            ("http://127.0.0.1:8650/", "own_listener"),
            ("http://127.1:8650/", "own_listener"),
            ("http://0.0.0.0:8650/", "own_listener"),
            ("http://[::]:8650/", "own_listener"),
            ("http://[::ffff:127.0.0.1]:8650/", "own_listener"),
            ("http://[::127.0.0.1]:8650/", "own_listener"),
            ("http://[64:ff9b::7f00:1]:8650/", "own_listener"),
            ("http://127.0.0.1:8651/", "ok"),
            ("http://127.0.0.2:8650/", "ok"),
        ],
    );
    let any = TargetPolicy {
        own_listener: Some("0.0.0.0:8650".parse().unwrap()),
        ..policy
    };
    expect(
        &any,
        &[
            ("http://127.0.0.2:8650/", "own_listener"),
            ("http://[::1]:8650/", "own_listener"),
            ("http://0.0.0.0:8650/", "own_listener"),
            ("http://127.0.0.2:8651/", "ok"),
            ("http://8.8.8.8:8650/", "ok"),
        ],
    );
}

#[test]
fn one_refused_answer_refuses_the_name() {
    let policy = open();
    let url = TargetUrl::parse("https://a.example/", &policy).unwrap();
    let all = |texts: &[&str]| {
        let addresses: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        match policy.judge_all(&url, &addresses) {
            Judgement::Allowed => "allowed",
            Judgement::NoAddress => "no address",
            Judgement::Refused(refusal) => refusal.rule.as_str(),
        }
    };
    assert_eq!(all(&["8.8.8.8", "2606:4700::1111"]), "allowed");
    assert_eq!(all(&["8.8.8.8", "10.0.0.1"]), "private_v4");
    assert_eq!(all(&["::ffff:10.0.0.1", "8.8.8.8"]), "private_v6");
    assert_eq!(all(&[]), "no address");
}

#[test]
fn a_refusal_names_its_rule_in_its_text() {
    for (raw, rule) in [
        ("https://10.0.0.1/", "private_v4: "),
        ("https://localhost/", "local_name: "),
        ("ftp://a/", "scheme: "),
    ] {
        let text = TargetUrl::parse(raw, &open()).unwrap_err().to_string();
        assert!(text.starts_with(rule), "{text}");
    }
    let names: std::collections::BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics_and_what_passes_passes_again_unchanged(raw in "(https?:[/\\\\]{0,3})?\\PC{0,60}") {
            if let Ok(url) = TargetUrl::parse(&raw, &open()) {
                let again = TargetUrl::parse(url.as_str(), &open());
                prop_assert_eq!(again, Ok(url));
            }
        }

        #[test]
        fn every_ipv4_address_is_judged_alike_in_all_its_spellings(bits: u32) {
            let address = std::net::Ipv4Addr::from_bits(bits);
            let plain = verdict(&format!("https://{address}/"), &open()) == "ok";
            for spelling in [
                format!("{bits}"), format!("{bits:#x}"), format!("0{bits:o}"), format!("[::ffff:{address}]"),
                format!("[64:ff9b::{address}]"), format!("[2002:{:x}:{:x}::]", bits >> 16, bits & 0xffff),
            ] {
                prop_assert_eq!(verdict(&format!("https://{spelling}/"), &open()) == "ok", plain, "{}", spelling);
            }
        }
    }
}
