//! seccomp: the system calls that are refused. All others are allowed, so that a new libc, or a module of it that looks
//! names up, works as before (ADR 0033).

use super::Enforcement;
use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp as Compare, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// Not in libc yet. The number is the same everywhere (Linux 6.15).
const OPEN_TREE_ATTR: c_long = 467;

/// Refused with any arguments, in the groups of systemd.exec(5).
#[rustfmt::skip]
const REFUSED: &[c_long] = &[
    // Programs. What starts processes is below.
    libc::SYS_execve, libc::SYS_execveat,
    // @debug, and other ways into other processes.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd, libc::SYS_kcmp, libc::SYS_perf_event_open, libc::SYS_lookup_dcookie,
    // Interfaces with a large surface in the kernel.
    libc::SYS_bpf, libc::SYS_userfaultfd, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Namespaces.
    libc::SYS_unshare, libc::SYS_setns,
    // @mount
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_fsopen, libc::SYS_fsmount,
    libc::SYS_fsconfig, libc::SYS_fspick, libc::SYS_move_mount, libc::SYS_open_tree, libc::SYS_mount_setattr, OPEN_TREE_ATTR,
    // Files by handles, which pass by directories.
    libc::SYS_open_by_handle_at,
    // @keyring
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // @module
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module,
    // @reboot, @swap
    libc::SYS_reboot, libc::SYS_kexec_load, libc::SYS_swapon, libc::SYS_swapoff,
    // @clock
    libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime,
    // @setuid, and capabilities.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_capset,
    // @privileged
    libc::SYS_acct, libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_syslog, libc::SYS_sethostname,
    libc::SYS_setdomainname, libc::SYS_vhangup, libc::SYS_fanotify_init, libc::SYS_nfsservctl, libc::SYS_personality,
    // Memory on other nodes.
    libc::SYS_migrate_pages, libc::SYS_move_pages,
];

/// Those of one architecture: @raw-io, @cpu-emulation, @obsolete, and what else has a number there alone.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const REFUSED_HERE: &[c_long] = &[
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_kexec_file_load,
    libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt,
    libc::SYS__sysctl, libc::SYS_uselib, libc::SYS_ustat, libc::SYS_sysfs,
];
/// `kexec_file_load`, which libc lacks for musl.
#[cfg(target_arch = "aarch64")]
const REFUSED_HERE: &[c_long] = &[294];

/// On x86_64 a kernel may have a second number for each call, and calls of its own, for the x32 ABI. The latter could be
/// made without the bit too before Linux 5.4.
#[cfg(target_arch = "x86_64")]
const X32_BIT: c_long = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const X32_CALLS: std::ops::RangeInclusive<c_long> = 512..=547;

const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// The bits of the type of a socket that are not flags (`SOCK_TYPE_MASK` in Linux).
const SOCKET_TYPE: u64 = 0xf;
/// The old way to sockets that see all packets (packet(7)), deprecated in libc.
const SOCK_PACKET: i32 = 10;
/// Types on a terminal (ioctl_tty(2), ioctl_console(2)). The types in libc differ between libraries.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;
/// `SHM_EXEC` (shmat(2)).
const SHM_EXEC: i32 = 0o100_000;

/// Restricts all threads.
pub(super) fn confine() -> Enforcement {
    let filters = [
        filter(refused(), libc::EPERM),
        filter(unknown(), libc::ENOSYS),
    ];
    for filter in filters {
        let applied = filter.and_then(|f| seccompiler::apply_filter_all_threads(&f));
        if let Err(error) = applied {
            return Enforcement::NotSupported(error.to_string());
        }
    }
    Enforcement::Enforced
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(rules: Result<Rules, Error>, errno: i32) -> Result<BpfProgram, Error> {
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules?, SeccompAction::Allow, refuse, ARCHITECTURE)?;
    Ok(filter.try_into()?)
}

/// Calls that don't exist for the daemon. `clone3` has its flags in memory, where no filter can read them; libc then uses
/// `clone`.
fn unknown() -> Result<Rules, Error> {
    Ok(BTreeMap::from([(libc::SYS_clone3, Vec::new())]))
}

/// Calls that are refused.
fn refused() -> Result<Rules, Error> {
    let always = REFUSED.iter().chain(REFUSED_HERE);
    let mut rules: Rules = always.map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_clone, processes()?);
    rules.insert(libc::SYS_ioctl, terminals()?);
    let writable_code = libc::PROT_WRITE | libc::PROT_EXEC;
    rules.insert(libc::SYS_mmap, vec![all_of(&[has(2, writable_code)])?]);
    rules.insert(
        libc::SYS_mprotect,
        vec![all_of(&[has(2, libc::PROT_EXEC)])?],
    );
    rules.insert(
        libc::SYS_pkey_mprotect,
        vec![all_of(&[has(2, libc::PROT_EXEC)])?],
    );
    rules.insert(libc::SYS_shmat, vec![all_of(&[has(2, SHM_EXEC)])?]);
    #[cfg(target_arch = "x86_64")]
    {
        let second: Vec<_> = rules.keys().map(|call| call | X32_BIT).collect();
        let own = X32_CALLS.flat_map(|call| [call, call | X32_BIT]);
        rules.extend(second.into_iter().chain(own).map(|call| (call, Vec::new())));
    }
    Ok(rules)
}

/// Sockets other than those of the Internet protocols, of Unix and of routing, which name look-ups ask; and raw ones.
fn sockets() -> Result<Vec<SeccompRule>, Error> {
    let of = |family| is(0, family);
    let used = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let kind = |kind: i32| (1, Compare::MaskedEq(SOCKET_TYPE), value(kind));
    Ok(vec![
        all_of(&used.map(|family| (0, Compare::Ne, value(family))))?,
        all_of(&[
            of(libc::AF_NETLINK),
            (2, Compare::Ne, value(libc::NETLINK_ROUTE)),
        ])?,
        all_of(&[of(libc::AF_INET), kind(libc::SOCK_RAW)])?,
        all_of(&[of(libc::AF_INET6), kind(libc::SOCK_RAW)])?,
        all_of(&[of(libc::AF_INET), kind(SOCK_PACKET)])?,
    ])
}

/// New processes, and threads in other namespaces.
fn processes() -> Result<Vec<SeccompRule>, Error> {
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let not_a_thread = all_of(&[(0, Compare::MaskedEq(thread), 0)]);
    let elsewhere = NAMESPACES.iter().map(|flag| all_of(&[has(0, *flag)]));
    std::iter::once(not_a_thread).chain(elsewhere).collect()
}

/// Typing on the terminal that the daemon was started from.
fn terminals() -> Result<Vec<SeccompRule>, Error> {
    let types = [TIOCSTI, TIOCLINUX];
    let rules = types.map(|request| all_of(&[(1, Compare::Eq, request)]));
    rules.into_iter().collect()
}

type Test = (u8, Compare, u64);

fn value(of: i32) -> u64 {
    u64::from(of.cast_unsigned())
}

/// Whether an argument is this.
fn is(argument: u8, wanted: i32) -> Test {
    (argument, Compare::Eq, value(wanted))
}

/// Whether an argument has all of these bits.
fn has(argument: u8, bits: i32) -> Test {
    (argument, Compare::MaskedEq(value(bits)), value(bits))
}

/// A rule that matches if all tests do. The kernel reads 32 bits of these arguments.
fn all_of(tests: &[Test]) -> Result<SeccompRule, Error> {
    let conditions = tests.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    let conditions: Result<Vec<_>, _> = conditions.collect();
    Ok(SeccompRule::new(conditions?)?)
}
