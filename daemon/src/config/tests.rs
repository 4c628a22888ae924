//! Tests of reading the configuration.

use super::*;

const FILE: &str = "stormhook.toml";

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let home = [("HOME", "/home/storm")];
    home.iter()
        .chain(pairs)
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect()
}

fn load(file: &str, pairs: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let flags: Vec<_> = flags
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_sources(Some((Path::new(FILE), file)), environment(pairs), &flags)
}

fn error(file: &str, pairs: &[(&str, &str)]) -> String {
    load(file, pairs, &[]).unwrap_err().to_string()
}

#[test]
fn nothing_set_gives_the_documented_defaults() {
    let config = load("", &[], &[]).unwrap();
    let shown: Vec<_> = config
        .describe()
        .into_iter()
        .map(|(key, value, _)| format!("{key}={value}"))
        .collect();
    let expected = "\
data_dir=\"/home/storm/.local/state/stormhook\"
socket=\"/home/storm/.local/state/stormhook/stormhook.sock\"
socket_allow_uids=[]
socket_scopes=[\"ingest\", \"read\", \"write\", \"admin\"]
listen=\"127.0.0.1:8650\"
behind_proxy=false
host_names=[]
sandbox=true
sandbox_read=[]
delivery.timeout=\"15s\"
delivery.connect_timeout=\"5s\"
delivery.max_in_flight=512
delivery.max_in_flight_per_endpoint=32
delivery.excerpts=true
delivery.signature_header=\"x-stormcom-signature\"
delivery.pool_idle=\"4s\"
delivery.pool_max_age=\"5m\"
dns.servers=[]
retry.schedule=[\"1m\", \"5m\", \"30m\", \"2h\", \"24h\"]
retry.jitter=0.1
idempotency.ttl=\"24h\"
retention.events=\"30d\"
retention.audit=\"365d\"
retention.attempts=\"30d\"
limits.event_bytes=\"256KiB\"
limits.pending_deliveries=5000000
limits.endpoints_per_organization=1000
limits.connections=10000
limits.idle=\"1m\"
limits.response_bytes=\"64KiB\"
limits.excerpt_bytes=\"1KiB\"
limits.disk_reserve=\"256MiB\"
store.cache=\"8MiB\"
store.lease=\"8s\"
cluster.listen=\"127.0.0.1:0\"
outbox.poll=\"25ms\"
breaker.disable_after=\"5d\"
target.allow=[\"127.0.0.0/8\"]
target.deny=[]
target.allow_http=false
tls.extra_roots=[]
log.format=\"text\"
log.level=\"info\"";
    assert_eq!(shown.join("\n"), expected);
}

#[test]
fn every_builtin_value_is_one_that_its_own_key_accepts() {
    let config = load("", &[], &[]).unwrap();
    for (key, value, _) in config.describe() {
        let file = format!("{key} = {value}");
        let again = load(&file, &[], &[]).unwrap_or_else(|error| panic!("{file}: {error}"));
        let (_, read, origin) = again
            .describe()
            .into_iter()
            .find(|(name, ..)| *name == key)
            .unwrap();
        assert_eq!(
            (read, origin),
            (
                value,
                Origin::File {
                    path: FILE.into(),
                    line: 1
                }
            )
        );
    }
}

#[test]
fn a_later_source_wins_and_is_named() {
    let file = "[delivery]\ntimeout = \"1s\"\nconnect_timeout = \"2s\"\npool_idle = \"3s\"";
    let variables = [
        ("STORMHOOK_DELIVERY__TIMEOUT", "4s"),
        ("STORMHOOK_DELIVERY__CONNECT_TIMEOUT", "5s"),
    ];
    let config = load(file, &variables, &[("delivery.timeout", "6s")]).unwrap();
    let seconds = [
        config.delivery.timeout,
        config.delivery.connect_timeout,
        config.delivery.pool_idle,
    ]
    .map(|d| d.as_secs());
    assert_eq!(seconds, [6, 5, 3]);
    assert_eq!(config.origin("delivery.timeout"), Origin::Flag);
    assert_eq!(
        config.origin("delivery.connect_timeout").to_string(),
        "$STORMHOOK_DELIVERY__CONNECT_TIMEOUT"
    );
    assert_eq!(
        config.origin("delivery.pool_idle").to_string(),
        "stormhook.toml:4"
    );
    assert_eq!(config.origin("delivery.max_in_flight"), Origin::Default);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_key() {
    for (file, expected) in [
        (
            "[delivery]\n\ntimout = \"1s\"",
            "stormhook.toml:3: unknown key \"delivery.timout\"; the nearest known one is \"delivery.timeout\"",
        ),
        (
            "[delivry]\ntimeout = \"1s\"",
            "stormhook.toml:1: unknown key \"delivry\"; the nearest known one is \"delivery\"",
        ),
        (
            "sockt = \"off\"",
            "stormhook.toml:1: unknown key \"sockt\"; the nearest known one is \"socket\"",
        ),
        (
            "[retry]\ntimeout = \"1s\"",
            "stormhook.toml:2: unknown key \"retry.timeout\"; the nearest known one is \"delivery.timeout\"",
        ),
        (
            "delivery = 3",
            "stormhook.toml:1: delivery is a section: write [delivery] and its keys below it",
        ),
    ] {
        assert_eq!(error(file, &[]), expected);
    }
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_known_one() {
    assert_eq!(
        error("", &[("STORMHOOK_DELIVERY_TIMEOUT", "1s")]),
        "$STORMHOOK_DELIVERY_TIMEOUT: unknown variable \"STORMHOOK_DELIVERY_TIMEOUT\"; the nearest known one is \"STORMHOOK_DELIVERY__TIMEOUT\"",
    );
    assert!(load("", &[], &[("delivery.timout", "1s")]).is_err());
}

#[test]
fn a_listener_for_other_machines_needs_tls_or_a_proxy() {
    let everywhere = "listen = \"0.0.0.0:8650\"\n";
    for protected in [
        "behind_proxy = true",
        "tls.certificate = \"/c.pem\"\ntls.key = \"/k.pem\"",
    ] {
        let config = load(&format!("{everywhere}{protected}"), &[], &[]).unwrap();
        assert_eq!(config.listen, Some("0.0.0.0:8650".parse().unwrap()));
    }
}

#[test]
fn variables_of_the_command_line_are_no_keys() {
    let variables = [
        ("STORMHOOK_SECRET", "whsec_x"),
        ("STORMHOOK_CONFIG", "/x.toml"),
        ("STORMHOOK_SERVER", "https://hooks.example:8650"),
        ("STORMHOOK_TOKEN_FILE", "/x.token"),
        ("STORMHOOK_CA_FILE", "/x.pem"),
        ("STORMHOOK_SOCKET", "/run/a.sock"),
    ];
    assert_eq!(
        load("", &variables, &[]).unwrap().socket,
        Some(PathBuf::from("/run/a.sock"))
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = error(
        "[retry]\njitter = 2\n[log]\nlevel = \"loud\"",
        &[("STORMHOOK_NO", "1")],
    );
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.contains("stormhook.toml:2: retry.jitter must be a number from 0 to 1; got 2"),
        "{text}"
    );
}

#[test]
fn values_outside_their_range_are_refused_with_what_is_allowed() {
    for (file, expected) in [
        (
            "idempotency.ttl = \"4m\"",
            "idempotency.ttl must be a duration from 5m to 72h",
        ),
        ("idempotency.ttl = \"73h\"", "from 5m to 72h"),
        (
            "idempotency.ttl = \"2h\"\nretention.events = \"1h\"",
            "longer than retention.events, 1h",
        ),
        ("retry.jitter = 1.01", "a number from 0 to 1; got 1.01"),
        ("retry.jitter = nan", "a number from 0 to 1"),
        ("retry.schedule = [\"0ms\"]", "a list of 0 to 20 entries"),
        (
            "retry.schedule = [\"1m\", 5]",
            "each a duration from 1ms to 30d",
        ),
        (
            "delivery.max_in_flight = 0",
            "a whole number from 1 to 65535; got 0",
        ),
        ("delivery.max_in_flight = -1", "got -1"),
        (
            "delivery.timeout = 15",
            "written as an integer and ms, s, m, h or d; got 15",
        ),
        ("delivery.timeout = \"15 s\"", "got \"15 s\""),
        ("delivery.timeout = \"1.5s\"", "got \"1.5s\""),
        ("delivery.timeout = \"-1s\"", "got \"-1s\""),
        (
            "delivery.timeout = \"99999999999999999999d\"",
            "delivery.timeout must be",
        ),
        (
            "delivery.timeout = \"9999999999999999d\"",
            "delivery.timeout must be",
        ),
        ("delivery.signature_header = \"host\"", "a header name"),
        (
            "delivery.signature_header = \"x-stormcom-event\"",
            "a header name",
        ),
        ("limits.event_bytes = \"1MB\"", "written as \"256KiB\""),
        ("limits.event_bytes = \"1GiB\"", "a size from 64 to 16MiB"),
        ("target.allow = [\"*\"]", "a network such as"),
        ("target.allow = \"10.0.0.0/8\"", "a list of"),
        ("target.allow_http = \"yes\"", "true or false"),
        ("log.format = \"xml\"", "one of \"text\", \"json\""),
        ("listen = \"localhost:8650\"", "an IP address and a port"),
        (
            "listen = \"0.0.0.0:8650\"",
            "without TLS: set tls.certificate and tls.key; or set behind_proxy = true",
        ),
        ("listen = \"[::]:8650\"", "or listen on 127.0.0.1 or [::1]"),
        (
            "tls.certificate = \"/c.pem\"",
            "tls.certificate is set, but tls.key is not; set both",
        ),
        (
            "tls.key = \"/k.pem\"",
            "tls.key is set, but tls.certificate is not; set both",
        ),
        (
            "socket = \"off\"\nlisten = \"off\"",
            "so the daemon would be unreachable",
        ),
        (
            "socket = \"\"",
            "socket must be a path, or \"off\"; got \"\"",
        ),
        ("socket_allow_uids = [-1]", "a whole number from 0"),
        (
            "host_names = [\"a.example:80\"]",
            "a host name without a port",
        ),
    ] {
        let text = error(file, &[]);
        assert!(text.contains(expected), "{file}: {text}");
    }
}

#[test]
fn the_key_before_needs_one_after_it() {
    let file = "[secrets]\nprevious_key_file = \"/key\"";
    let refused = error(file, &[]);
    assert!(
        refused.contains("set without secrets.key_file"),
        "{refused}"
    );
    let credentials = [(
        "CREDENTIALS_DIRECTORY",
        "/run/credentials/stormhook.service",
    )];
    let config = load(file, &credentials, &[]).unwrap();
    let credential = "/run/credentials/stormhook.service/stormhook-key";
    assert_eq!(
        config.secrets.credential.as_deref(),
        Some(Path::new(credential))
    );
    assert!(load(file, &[("STORMHOOK_SECRETS__KEY_FILE", "/new")], &[]).is_ok());
}

#[test]
fn a_socket_path_that_does_not_fit_says_to_choose_a_shorter_one() {
    let path = |bytes: usize| format!("/{}", "s".repeat(bytes - 1));
    assert!(load("", &[("STORMHOOK_SOCKET", &path(107))], &[]).is_ok());
    let text = error("", &[("STORMHOOK_SOCKET", &path(108))]);
    assert!(
        text.contains("108 bytes") && text.contains("set socket to a shorter path"),
        "{text}"
    );
    let text = error("", &[("STORMHOOK_DATA_DIR", &path(100))]);
    assert!(text.contains("set socket to a shorter path"), "{text}");
    assert!(
        load(
            "",
            &[
                ("STORMHOOK_DATA_DIR", &path(100)),
                ("STORMHOOK_SOCKET", "off")
            ],
            &[]
        )
        .is_ok()
    );
}

#[test]
fn text_values_are_read_as_their_keys_mean_them() {
    let variables = [
        ("STORMHOOK_RETRY__SCHEDULE", "1s, 2s,500ms"),
        (
            "STORMHOOK_TARGET__ALLOW",
            "[\"127.0.0.0/8\", \"localhost\"]",
        ),
        ("STORMHOOK_TARGET__DENY", ""),
        ("STORMHOOK_TARGET__ALLOW_HTTP", "true"),
        ("STORMHOOK_LIMITS__EVENT_BYTES", "1000"),
        ("STORMHOOK_LISTEN", "127.0.0.1:0"),
        ("STORMHOOK_RETRY__JITTER", "0"),
        ("STORMHOOK_LOG__LEVEL", "debug"),
        ("STORMHOOK_SOCKET_ALLOW_UIDS", "0,1000"),
    ];
    let config = load("", &variables, &[]).unwrap();
    assert_eq!(
        config.retry.schedule,
        [1000, 2000, 500].map(Duration::from_millis)
    );
    assert_eq!(
        config
            .target
            .allow
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["127.0.0.0/8", "localhost"]
    );
    assert!(config.target.deny.is_empty() && config.target.allow_http);
    assert_eq!(
        (config.limits.event_bytes, config.retry.jitter),
        (1000, 0.0)
    );
    assert_eq!(
        (config.log.level, config.socket_allow_uids),
        (tracing::Level::DEBUG, vec![0, 1000])
    );
    assert!(load("", &[("STORMHOOK_TARGET__ALLOW", "[\"a.b\"]\nx = 1")], &[]).is_err());
}

#[test]
fn folders_come_from_systemd_then_xdg_then_home() {
    let places = |pairs: &[(&str, &str)]| {
        let config = load("", pairs, &[]).unwrap();
        (
            config.data_dir.display().to_string(),
            config.socket.unwrap().display().to_string(),
        )
    };
    let own = |folder: &str, socket: &str| (folder.to_owned(), socket.to_owned());
    let xdg = ("XDG_STATE_HOME", "/x");
    let state = ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b");
    assert_eq!(
        places(&[xdg]),
        own("/x/stormhook", "/x/stormhook/stormhook.sock")
    );
    assert_eq!(
        places(&[xdg, state]),
        own("/var/lib/a", "/var/lib/a/stormhook.sock")
    );
    assert_eq!(
        places(&[state, ("RUNTIME_DIRECTORY", "/run/a")]),
        own("/var/lib/a", "/run/a/stormhook.sock")
    );
    assert_eq!(
        places(&[("XDG_STATE_HOME", "x")]).0,
        "/home/storm/.local/state/stormhook"
    );
    assert_eq!(
        places(&[state, ("STORMHOOK_DATA_DIR", "/d")]),
        own("/d", "/d/stormhook.sock")
    );
    let text = Config::from_sources(None, [], &[]).unwrap_err().to_string();
    assert!(text.contains("set data_dir"), "{text}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let text = error("listen = \"off\"\nsocket = off", &[]);
    assert!(
        text.starts_with("stormhook.toml:2: not valid TOML"),
        "{text}"
    );
    assert!(error("[log]\nlevel = \"info\"\nlevel = \"info\"", &[]).contains("stormhook.toml:3"));
}

#[test]
fn a_named_file_that_is_missing_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let text = Config::load(Some(&path), environment(&[]), &[])
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("none.toml") && text.contains("--config"),
        "{text}"
    );
    std::fs::write(&path, "log.level = \"warn\"").unwrap();
    assert_eq!(
        Config::load(Some(&path), environment(&[]), &[])
            .unwrap()
            .log
            .level,
        tracing::Level::WARN
    );
    std::fs::write(&path, " ".repeat((1 << 20) + 1)).unwrap();
    assert!(matches!(
        Config::load(Some(&path), environment(&[]), &[]),
        Err(ConfigError::TooLarge { .. })
    ));
}

#[test]
fn a_reload_takes_what_it_can_and_names_what_needs_a_restart() {
    let old = load("log.level = \"info\"\nstore.cache = \"1MiB\"", &[], &[]).unwrap();
    let new = load(
        "retry.jitter = 0.5\nstore.cache = \"2MiB\"\nlisten = \"off\"",
        &[],
        &[],
    )
    .unwrap();
    let (next, ignored) = old.reloadable_changes(&new);
    assert_eq!(ignored, ["listen", "store.cache"]);
    assert_eq!(
        (next.retry.jitter, next.store.cache, next.listen),
        (0.5, 1 << 20, old.listen)
    );
    assert_eq!(next.origin("retry.jitter").to_string(), "stormhook.toml:1");
    assert_eq!(next.origin("log.level"), Origin::Default);
    assert_eq!(old.reloadable_changes(&old).1, Vec::<String>::new());
}

/// With `STORMHOOK_WRITE_REFERENCE=1` it writes the page instead.
#[test]
fn the_reference_page_says_what_the_table_of_keys_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("STORMHOOK_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == reference(),
        "docs/configuration.md is out of date: run this test with STORMHOOK_WRITE_REFERENCE=1"
    );
}

#[test]
fn what_kubernetes_sets_for_services_is_passed_over_and_nothing_else() {
    let links = [
        ("STORMHOOK_PORT", "tcp://10.0.0.7:8650"),
        ("STORMHOOK_SERVICE_HOST", "10.0.0.7"),
        ("STORMHOOK_SERVICE_PORT", "8650"),
        ("STORMHOOK_SERVICE_PORT_HTTP_API", "8650"),
        ("STORMHOOK_PORT_8650_TCP", "tcp://10.0.0.7:8650"),
        ("STORMHOOK_PORT_8650_TCP_PROTO", "tcp"),
        ("STORMHOOK_PORT_8650_TCP_PORT", "8650"),
        ("STORMHOOK_PORT_8650_TCP_ADDR", "10.0.0.7"),
        ("STORMHOOK_PORT_53_UDP_ADDR", "fd00::7"),
        ("STORMHOOK_METRICS_SERVICE_HOST", "10.0.0.8"),
        ("STORMHOOK_METRICS_PORT", "tcp://10.0.0.8:9090"),
        ("STORMHOOK_METRICS_PORT_9090_TCP", "tcp://10.0.0.8:9090"),
    ];
    let pair = |(name, value): (&str, &str)| (OsString::from(name), OsString::from(value));
    let with_a_key = [("STORMHOOK_LIMITS__CONNECTIONS", "77")];
    let environment = links.into_iter().chain(with_a_key).map(pair);
    let config = Config::from_sources(None, environment.chain(required()), &[]).unwrap();
    assert_eq!(config.limits.connections, 77);
    let mut passed_over = super::service_links(links.into_iter().chain(with_a_key).map(pair));
    let mut expected: Vec<_> = links.iter().map(|(name, _)| (*name).to_owned()).collect();
    passed_over.sort_unstable();
    expected.sort_unstable();
    assert_eq!(passed_over, expected);
    for meant in [
        ("STORMHOOK_PORT", "8650"),
        ("STORMHOOK_SERVICE_HOST", "hooks.example"),
        ("STORMHOOK_SERVICE_PORT", "many"),
        ("STORMHOOK_PORT_8650_TCP_COLOUR", "tcp"),
        ("STORMHOOK_SERVICE", "10.0.0.7"),
    ] {
        let environment = [pair(meant)].into_iter().chain(required());
        let error = Config::from_sources(None, environment, &[]).unwrap_err();
        assert!(
            error.to_string().contains("unknown variable"),
            "{meant:?}: {error}"
        );
    }
}

/// What a configuration requires if the process has no home directory.
fn required() -> impl Iterator<Item = (OsString, OsString)> {
    [("STORMHOOK_DATA_DIR", "/d")]
        .into_iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
}

#[test]
fn the_password_of_a_database_is_never_shown() {
    let urls = [
        (
            "postgres://u:se@cr?et@h/d?sslmode=require",
            "postgres://u:***@h/d?sslmode=require",
        ),
        (
            "postgres://u@h/d?password=se?cret&sslmode=require",
            "postgres://u@h/d?password=***&sslmode=require",
        ),
        (
            "postgres://h/d?user=u&password=secret",
            "postgres://h/d?user=u&password=***",
        ),
        (
            "\"postgres://h/d?password=secret\"",
            "\"postgres://h/d?password=***\"",
        ),
        ("postgres://u@h/d", "postgres://u@h/d"),
    ];
    for (url, shown) in urls {
        assert_eq!(without_password(url), shown);
    }
    let url = "postgres://h/d?password=secret";
    let config = load("", &[("STORMHOOK_STORE__URL", url)], &[]).unwrap();
    assert_eq!(config.store.url.as_deref(), Some(url));
    let shown = format!("{:?}", config.describe());
    assert!(
        shown.contains("password=***") && !shown.contains("secret"),
        "{shown}"
    );
}
