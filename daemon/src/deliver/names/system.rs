//! Reads this machine's `/etc/resolv.conf` and `/etc/hosts`. If `dns.servers` names servers, only those are asked.

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use resolv_conf::ScopedIp;
use std::fs::Metadata;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DNS_PORT: u16 = 53;
/// The bounds of glibc (resolv.conf(5)).
const MAX_SERVERS: usize = 3;
const MAX_NDOTS: u32 = 15;
const MAX_TIMEOUT_S: u32 = 30;
const MAX_ATTEMPTS: u32 = 5;
/// The maximum number of search domains; glibc has no limit since 2.26.
const MAX_SEARCH: usize = 16;
/// How much of a file is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The files, and the servers that override them.
#[derive(Debug, Clone)]
pub(in crate::deliver) struct Sources {
    /// `resolv.conf`.
    pub(in crate::deliver) resolv: PathBuf,
    /// `hosts`.
    pub(in crate::deliver) hosts: PathBuf,
    /// Servers to ask instead of those in `resolv.conf`.
    pub(in crate::deliver) servers: Vec<SocketAddr>,
}

impl Sources {
    /// Returns the files of this machine.
    pub(in crate::deliver) fn of_machine(servers: Vec<SocketAddr>) -> Self {
        Self {
            resolv: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            servers,
        }
    }

    /// Returns a stamp of the files, which changes when one of them does.
    pub(super) fn stamp(&self) -> [Option<Stamp>; 2] {
        [&self.resolv, &self.hosts]
            .map(|path| std::fs::metadata(path).ok().map(|meta| Stamp::of(&meta)))
    }
}

/// What a changed file is recognized by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self(meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec())
    }
}

/// How names are looked up.
pub(super) struct System {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<Name>,
    pub(super) ndots: usize,
    /// The time for one try of one server.
    pub(super) timeout: Duration,
    /// The number of tries per server.
    pub(super) attempts: usize,
    /// Whether queries rotate through the servers.
    pub(super) rotate: bool,
    pub(super) edns0: bool,
    /// Whether only TCP is used.
    pub(super) tcp_only: bool,
    /// Whether IPv6 addresses are not asked for.
    pub(super) no_aaaa: bool,
    /// Whether names without a dot are never asked for as they are.
    pub(super) no_tld_query: bool,
    hosts: Hosts,
}

impl System {
    /// Reads the files. An unreadable file is treated as empty, and logged.
    pub(super) fn read(sources: &Sources) -> Self {
        let text = match read(&sources.resolv) {
            Ok(text) => text,
            Err(error) => {
                let path = sources.resolv.display();
                if sources.servers.is_empty() {
                    tracing::warn!(%error, "{path} can't be read; using the name server 127.0.0.1:53. Create the file or set dns.servers");
                }
                Vec::new()
            }
        };
        let mut hosts = Hosts::default();
        let read_hosts = read(&sources.hosts).and_then(|text| hosts.read_hosts_conf(&*text));
        if let Err(error) = read_hosts {
            let path = sources.hosts.display();
            tracing::warn!(%error, "{path} can't be read; it is ignored");
        }
        Self::of(&text, hosts, &sources.servers)
    }

    /// Reads the files again. `None` if one of them is there but can't be read, as after the replacement of a file in a
    /// sandbox: then what was read before is still the best that is known.
    pub(super) fn read_again(sources: &Sources) -> Option<Self> {
        for path in [&sources.resolv, &sources.hosts] {
            match read(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, "{} has changed, but can't be read; its former contents are used until a restart", path.display());
                    return None;
                }
                _ => {}
            }
        }
        Some(Self::read(sources))
    }

    fn of(resolv: &[u8], hosts: Hosts, servers: &[SocketAddr]) -> Self {
        let (config, errors) = resolv_conf::Config::parse_with_errors(resolv);
        for error in errors.iter().take(10) {
            tracing::warn!(%error, "ignored a line of resolv.conf");
        }
        let servers = if servers.is_empty() {
            name_servers(&config.nameservers)
        } else {
            servers.to_vec()
        };
        let mut search: Vec<String> = config.get_last_search_or_domain().cloned().collect();
        if search.is_empty() {
            search.extend(config.get_system_domain());
        }
        let search = search.iter().filter_map(|text| {
            let mut name = Name::from_ascii(text).ok()?;
            name.set_fqdn(true);
            (!name.is_root()).then_some(name)
        });
        Self {
            servers,
            search: search.take(MAX_SEARCH).collect(),
            ndots: usize::try_from(config.ndots.min(MAX_NDOTS)).unwrap_or(1),
            timeout: Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT_S).into()),
            attempts: usize::try_from(config.attempts.clamp(1, MAX_ATTEMPTS)).unwrap_or(1),
            rotate: config.rotate,
            edns0: config.edns0,
            tcp_only: config.use_vc,
            no_aaaa: config.no_aaaa,
            no_tld_query: config.no_tld_query,
            hosts,
        }
    }

    /// Returns the addresses that need no server: those in the hosts file, and `localhost` (RFC 6761).
    pub(super) fn local(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let mut found = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            let query = Query::query(name.clone(), kind);
            if let Some(lookup) = self.hosts.lookup_static_host(&query) {
                let addresses = lookup.answers().iter().filter_map(|r| r.data.ip_addr());
                found.extend(addresses);
            }
        }
        let is_local = || {
            let last = name.iter().next_back();
            last.is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"))
        };
        if found.is_empty() && is_local() {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        (!found.is_empty()).then_some(found)
    }

    /// Returns the full names to ask for, in order: along the search list, as in resolv.conf(5). A name that ends with
    /// a dot is already full.
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut full = name.clone();
        full.set_fqdn(true);
        if name.is_fqdn() {
            return vec![full];
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let searched = self.search.iter().filter_map(|domain| {
            let longer = name.clone().append_domain(domain);
            longer.ok()
        });
        let mut names: Vec<Name> = Vec::new();
        let as_it_is = dots > 0 || !self.no_tld_query;
        if as_it_is && dots >= self.ndots {
            names.push(full);
            names.extend(searched);
        } else {
            names.extend(searched);
            names.extend(as_it_is.then_some(full));
        }
        names
    }
}

fn name_servers(listed: &[ScopedIp]) -> Vec<SocketAddr> {
    let usable = |scoped: &ScopedIp| match scoped {
        ScopedIp::V6(ip, Some(zone)) => {
            tracing::warn!(
                "the name server {ip}%{zone} is ignored: addresses with a zone are not supported"
            );
            None
        }
        other => Some(IpAddr::from(other)),
    };
    let mut found: Vec<IpAddr> = listed.iter().take(MAX_SERVERS).filter_map(usable).collect();
    if found.is_empty() {
        // As glibc does.
        found = vec![Ipv4Addr::LOCALHOST.into()];
    }
    let with_port = found.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT));
    with_port.collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(resolv: &str, hosts: &str) -> System {
        let mut parsed = Hosts::default();
        parsed.read_hosts_conf(hosts.as_bytes()).unwrap();
        System::of(resolv.as_bytes(), parsed, &[])
    }

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn asked(system: &System, text: &str) -> Vec<String> {
        let names = system.candidates(&name(text));
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_resolv_conf_says_is_taken_within_bounds() {
        let text = "# a comment\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nsearch a.test b.test\noptions ndots:2 timeout:90 attempts:9 rotate edns0 use-vc no-aaaa\n";
        let system = system(text, "");
        let servers: Vec<String> = system.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"]
        );
        assert_eq!((system.ndots, system.attempts), (2, 5));
        assert_eq!(system.timeout, Duration::from_secs(30));
        assert!(system.rotate && system.edns0 && system.tcp_only && system.no_aaaa);
    }

    #[test]
    fn without_a_server_this_machine_is_asked() {
        for text in ["", "search a.test", "nameserver fe80::1%eth0"] {
            let servers = system(text, "").servers;
            let expected: [SocketAddr; 1] = ["127.0.0.1:53".parse().unwrap()];
            assert_eq!(servers, expected, "{text:?}");
        }
    }

    #[test]
    fn servers_of_the_configuration_replace_those_of_the_file() {
        let own: SocketAddr = "127.0.0.1:5300".parse().unwrap();
        let system = System::of(b"nameserver 192.0.2.1", Hosts::default(), &[own]);
        assert_eq!(system.servers, [own]);
    }

    #[test]
    fn the_search_list_is_followed_as_the_number_of_dots_says() {
        let one = system("search a.test b.test", "");
        assert_eq!(asked(&one, "web"), ["web.a.test.", "web.b.test.", "web."]);
        assert_eq!(
            asked(&one, "web.x"),
            ["web.x.", "web.x.a.test.", "web.x.b.test."]
        );
        assert_eq!(asked(&one, "web."), ["web."], "a dot at the end");
        assert_eq!(asked(&one, "web.x."), ["web.x."]);
        let five = system("search a.test\noptions ndots:5", "");
        assert_eq!(asked(&five, "web.x.y"), ["web.x.y.a.test.", "web.x.y."]);
        let no_tld = system("search a.test\noptions no-tld-query", "");
        assert_eq!(asked(&no_tld, "web"), ["web.a.test."]);
    }

    #[test]
    fn of_search_and_domain_the_last_one_counts() {
        let system = system("search a.test\ndomain b.test", "");
        assert_eq!(asked(&system, "web"), ["web.b.test.", "web."]);
    }

    #[test]
    fn the_hosts_file_gives_all_addresses_of_a_name_and_localhost_is_always_known() {
        let hosts = "127.0.0.1 localhost\n192.0.2.7 web.test WEB # x\n2001:db8::7 web.test\n192.0.2.8 web.test\nnonsense\n";
        let system = system("", hosts);
        let local = |text: &str| {
            let found = system.local(&name(text))?;
            Some(found.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let expected = ["192.0.2.7", "192.0.2.8", "2001:db8::7"].map(str::to_owned);
        assert_eq!(local("web.test"), Some(expected.to_vec()));
        assert_eq!(local("web.test."), Some(expected.to_vec()));
        assert_eq!(local("Web"), Some(vec!["192.0.2.7".to_owned()]));
        assert_eq!(local("localhost"), Some(vec!["127.0.0.1".to_owned()]));
        let both = ["127.0.0.1", "::1"].map(str::to_owned).to_vec();
        assert_eq!(local("a.localhost"), Some(both));
        assert_eq!(local("other.test"), None);
    }
}
