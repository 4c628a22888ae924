//! Decides whose fault a failed connection is: this machine's, which must not count against a receiver, or the
//! receiver's. A pure function of the errors of all addresses that were tried.

use rustix::io::Errno;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// This machine's: the attempt waits and is not counted.
    Ours,
    /// The receiver's, or that of the network in between.
    Partner,
}

/// What an error says about whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// This machine lacks something that every connection needs.
    Short,
    /// This machine can't send to that address at all: no local port, no route, or an unsupported family.
    NoWay,
    /// The receiver, or the network in between, refused or didn't answer.
    Partner,
}

fn sign(error: &io::Error) -> Sign {
    let Some(errno) = Errno::from_io_error(error) else {
        return if error.kind() == io::ErrorKind::OutOfMemory {
            Sign::Short
        } else {
            Sign::Partner
        };
    };
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Sign::Short,
        Errno::ADDRNOTAVAIL | Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT => {
            Sign::NoWay
        }
        _ => Sign::Partner,
    }
}

/// Whether creating or using a socket failed because this machine ran out of something.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    sign(error) == Sign::Short
}

/// Returns whose fault it is that none of a receiver's addresses could be connected to. `errors` are the results of all
/// tries; silence is `None`. `has_route` says whether this machine has any route: without one, an unreachable network
/// is its own fault. With one, a receiver whose addresses are all of another family is at fault.
pub(super) fn whose<'a>(
    errors: impl IntoIterator<Item = Option<&'a io::Error>>,
    has_route: impl FnOnce() -> bool,
) -> Fault {
    let mut no_port = false;
    let mut no_network = false;
    let mut partner = false;
    for error in errors {
        match error.map(|error| (sign(error), Errno::from_io_error(error))) {
            // One more connection might have succeeded.
            Some((Sign::Short, _)) => return Fault::Ours,
            Some((Sign::NoWay, Some(Errno::ADDRNOTAVAIL))) => no_port = true,
            Some((Sign::NoWay, _)) => no_network = true,
            Some((Sign::Partner, _)) | None => partner = true,
        }
    }
    if partner {
        Fault::Partner
    } else if no_port || no_network && !has_route() {
        Fault::Ours
    } else {
        Fault::Partner
    }
}

/// Whether this machine has a route beyond itself, in either family. Sends nothing: connecting a UDP socket only looks
/// the route up. The addresses are reserved for documentation (RFC 5737, RFC 3849).
pub(super) fn has_route() -> bool {
    let ways: [SocketAddr; 2] = [
        (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
    ];
    ways.into_iter().any(|to| try_to_send(to).is_ok())
}

/// Checks whether a packet could be sent to `address`, without sending one.
///
/// # Errors
/// What prevents it.
pub(super) fn try_to_send(address: SocketAddr) -> io::Result<()> {
    let from: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(from)?.connect(address)
}

/// Describes what went wrong at one address, in plain words.
pub(super) fn words(error: &io::Error) -> String {
    let text = match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => "refused the connection",
        Some(Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE) => "closed the connection",
        Some(Errno::TIMEDOUT) => "did not answer",
        Some(Errno::HOSTUNREACH) => "can't be reached: the network reports the host as unreachable",
        Some(Errno::NETUNREACH | Errno::NETDOWN) => {
            "can't be reached: this machine has no route to it"
        }
        Some(Errno::AFNOSUPPORT) => {
            "can't be reached: this machine doesn't support its address family"
        }
        Some(Errno::ADDRNOTAVAIL) => "can't be reached: this machine has no free local port for it",
        Some(Errno::MFILE | Errno::NFILE) => {
            "was not tried: this machine has no free file descriptor"
        }
        Some(Errno::NOBUFS | Errno::NOMEM) => "was not tried: this machine is out of memory",
        Some(Errno::ACCESS | Errno::PERM) => "can't be reached: this machine's firewall forbids it",
        _ => return format!("failed: {error}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS_ALONE: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    const NO_NETWORK: [Errno; 3] = [Errno::NETUNREACH, Errno::NETDOWN, Errno::AFNOSUPPORT];
    const PARTNERS: [Errno; 8] = [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::TIMEDOUT,
        Errno::CONNRESET,
        Errno::CONNABORTED,
        Errno::ACCESS,
        Errno::PERM,
        Errno::INVAL,
    ];

    fn judged(errnos: &[Errno], has_route: bool) -> Fault {
        let errors: Vec<io::Error> = errnos.iter().map(|e| (*e).into()).collect();
        whose(errors.iter().map(Some), || has_route)
    }

    #[test]
    fn a_shortage_is_ours_whatever_else_happened() {
        for errno in OURS_ALONE {
            for has_route in [true, false] {
                assert_eq!(judged(&[errno], has_route), Fault::Ours, "{errno:?}");
                for other in PARTNERS {
                    let both = [other, errno];
                    assert_eq!(judged(&both, has_route), Fault::Ours, "{both:?}");
                }
            }
            assert!(is_shortage(&errno.into()), "{errno:?}");
        }
        let memory = io::Error::from(io::ErrorKind::OutOfMemory);
        assert_eq!(whose([Some(&memory)], || true), Fault::Ours);
    }

    #[test]
    fn no_local_port_is_ours_where_no_address_said_anything_else() {
        assert_eq!(judged(&[Errno::ADDRNOTAVAIL], true), Fault::Ours);
        let mixed = [Errno::NETUNREACH, Errno::ADDRNOTAVAIL];
        assert_eq!(judged(&mixed, true), Fault::Ours);
        let refused = [Errno::ADDRNOTAVAIL, Errno::CONNREFUSED];
        assert_eq!(judged(&refused, true), Fault::Partner);
    }

    #[test]
    fn no_route_is_ours_only_for_all_addresses_and_without_any_route() {
        for errno in NO_NETWORK {
            assert_eq!(judged(&[errno, errno], false), Fault::Ours, "{errno:?}");
            assert_eq!(judged(&[errno, errno], true), Fault::Partner, "{errno:?}");
            for other in PARTNERS {
                assert_eq!(judged(&[errno, other], false), Fault::Partner, "{other:?}");
            }
        }
    }

    #[test]
    fn what_the_other_side_says_is_the_partners() {
        for errno in PARTNERS {
            assert_eq!(judged(&[errno], false), Fault::Partner, "{errno:?}");
            assert!(!is_shortage(&errno.into()), "{errno:?}");
        }
        assert_eq!(whose([None], || false), Fault::Partner, "silence");
        assert_eq!(judged(&[], false), Fault::Partner, "nothing tried");
    }

    #[test]
    fn every_error_has_words_without_a_number() {
        for errno in OURS_ALONE
            .into_iter()
            .chain(NO_NETWORK)
            .chain(PARTNERS)
            .chain([Errno::ADDRNOTAVAIL])
            .filter(|errno| *errno != Errno::INVAL)
        {
            let words = words(&errno.into());
            assert!(!words.contains("os error"), "{errno:?}: {words}");
        }
    }
}
