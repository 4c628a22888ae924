// What an attacker would do who can run code in the daemon. The test loads it into the daemon's process with LD_PRELOAD;
// on SIGUSR2 it tries everything and writes one line for each attempt: its name, and the error or 0.
//
// Nothing here does harm where it is allowed: system calls get arguments that can't be valid.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static FILE *out;

static void say(const char *name, int error) { fprintf(out, "%s %d\n", name, error); }

#define TRY(name, call) say(name, (errno = 0, (long)(call) == -1 ? errno : 0))

static const char *path(const char *name) {
    const char *value = getenv(name);
    return value ? value : "/nonexistent";
}

static const char *in(const char *directory, const char *name) {
    static char text[4][4096];
    static int next;
    char *joined = text[next++ % 4];
    snprintf(joined, sizeof text[0], "%s/%s", directory, name);
    return joined;
}

// Opens, and closes again.
static int opened(const char *file, int flags) {
    int fd = open(file, flags | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    close(fd);
    return 0;
}

static int listed(const char *directory) {
    DIR *found = opendir(directory);
    if (!found) return -1;
    closedir(found);
    return 0;
}

#define RAW(name) {#name, SYS_##name}

static const struct { const char *name; long number; } calls[] = {
    RAW(execve), RAW(execveat), RAW(ptrace), RAW(process_vm_readv), RAW(process_vm_writev), RAW(process_madvise),
    RAW(pidfd_getfd), RAW(kcmp), RAW(perf_event_open), RAW(lookup_dcookie), RAW(bpf), RAW(userfaultfd),
    RAW(io_uring_setup), RAW(io_uring_enter), RAW(io_uring_register), RAW(unshare), RAW(setns), RAW(mount), RAW(umount2),
    RAW(pivot_root), RAW(chroot), RAW(fsopen), RAW(fsmount), RAW(fsconfig), RAW(fspick), RAW(move_mount), RAW(open_tree),
    RAW(mount_setattr), RAW(open_by_handle_at), RAW(add_key), RAW(request_key), RAW(keyctl), RAW(init_module),
    RAW(finit_module), RAW(delete_module), RAW(reboot), RAW(kexec_load), RAW(kexec_file_load), RAW(swapon), RAW(swapoff),
    RAW(settimeofday), RAW(clock_settime), RAW(adjtimex), RAW(clock_adjtime), RAW(setuid), RAW(setgid), RAW(setreuid),
    RAW(setregid), RAW(setresuid), RAW(setresgid), RAW(setfsuid), RAW(setfsgid), RAW(setgroups), RAW(capset), RAW(acct),
    RAW(quotactl), RAW(syslog), RAW(sethostname), RAW(setdomainname), RAW(fanotify_init), RAW(nfsservctl),
    RAW(personality), RAW(migrate_pages), RAW(move_pages), {"quotactl_fd", 443}, {"open_tree_attr", 467},
#ifdef __x86_64__
    RAW(ioperm), RAW(iopl), RAW(modify_ldt), RAW(_sysctl), RAW(uselib), RAW(ustat), RAW(sysfs),
    // The same by their numbers in the x32 ABI, and calls that only that has.
    {"x32 unshare", 0x40000000 | SYS_unshare}, {"x32 socket", 0x40000000 | SYS_socket}, {"x32 execve", 0x40000000 | 520},
    {"x32 ptrace", 0x40000000 | 521}, {"x32 execve without its bit", 520},
#endif
};

static void system_calls(void) {
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        TRY(calls[i].name, syscall(calls[i].number, -1L, -1L, -1L, -1L, -1L, -1L));
    TRY("clone3", syscall(SYS_clone3, -1L, -1L));
    if (getenv("PROBE_CONFINED")) {
        // Without arguments; with the sandbox off, it would hang up the terminal of the test.
        TRY("vhangup", syscall(SYS_vhangup));
    }
    pid_t child = fork();
    if (child == 0) _exit(0);
    say("fork", child < 0 ? errno : 0);
    if (child > 0) waitpid(child, NULL, 0);
#ifdef __x86_64__
    // libc makes it with clone.
    child = (pid_t)syscall(SYS_fork);
    if (child == 0) _exit(0);
    say("fork by its own call", child < 0 ? errno : 0);
    if (child > 0) waitpid(child, NULL, 0);
#endif
    // Without a stack of its own it is a copy, as fork makes, but in another namespace.
    child = (pid_t)syscall(SYS_clone, (long)(CLONE_NEWUSER | SIGCHLD), 0L, 0L, 0L, 0L);
    if (child == 0) _exit(0);
    say("clone into a namespace", child < 0 ? errno : 0);
    if (child > 0) waitpid(child, NULL, 0);
    // Not a valid thread, so that there is none where it is allowed.
    TRY("thread in a namespace", syscall(SYS_clone, (long)(CLONE_THREAD | CLONE_NEWNET), 0L, 0L, 0L, 0L));
    char key = 'x';
    TRY("ioctl TIOCSTI", ioctl(0, TIOCSTI, &key));
}

static void memory(void) {
    size_t page = 4096;
    void *both = mmap(NULL, page, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("memory to write and run", both == MAP_FAILED ? errno : 0);
    void *data = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY("memory to run after writing", mprotect(data, page, PROT_READ | PROT_EXEC));
    TRY("memory to run with a key", syscall(SYS_pkey_mprotect, data, page, (long)(PROT_READ | PROT_EXEC), -1L));
    int shared = shmget(IPC_PRIVATE, page, IPC_CREAT | 0600);
    void *attached = shmat(shared, NULL, SHM_EXEC);
    say("shared memory to run", attached == (void *)-1 ? errno : 0);
    shmctl(shared, IPC_RMID, NULL);
}

static void files(void) {
    const char *other = path("PROBE_OTHER"), *data = path("PROBE_DATA");
    TRY("read a secret of the system", opened("/etc/shadow", O_RDONLY));
    TRY("read another directory's file", opened(in(other, "there"), O_RDONLY));
    TRY("list another directory", listed(other));
    TRY("list the root", listed("/"));
    TRY("read another process's variables", opened(in(in("/proc", path("PROBE_PARENT")), "environ"), O_RDONLY));
    TRY("write into /etc", opened("/etc/stormhook-probe", O_WRONLY | O_CREAT));
    unlink("/etc/stormhook-probe");
    TRY("write into another directory", opened(in(other, "made"), O_WRONLY | O_CREAT));
    TRY("overwrite another directory's file", opened(in(other, "there"), O_WRONLY));
    TRY("shorten another directory's file", truncate(in(other, "there"), 0));
    TRY("make a directory elsewhere", mkdir(in(other, "directory"), 0700));
    TRY("link elsewhere", symlink("x", in(other, "link")));
    TRY("make a pipe elsewhere", mknod(in(other, "pipe"), S_IFIFO | 0600, 0));
    TRY("rename elsewhere", rename(in(other, "renamed"), in(other, "other name")));
    TRY("remove elsewhere", unlink(in(other, "removed")));
    TRY("bring a file in", link(in(other, "there"), in(data, "linked")));
    TRY("overwrite the configuration", opened(path("PROBE_CONFIG"), O_WRONLY));
    TRY("write beside the socket", opened(in(path("PROBE_FOLDER"), "made"), O_WRONLY | O_CREAT));
    TRY("make a directory in the data directory", mkdir(in(data, "directory"), 0700));
    TRY("link in the data directory", symlink("x", in(data, "link")));
    TRY("use a device", opened("/dev/null", O_WRONLY));
}

static void allowed_files(void) {
    const char *data = path("PROBE_DATA");
    int fd = open(in(data, "probe-1"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    TRY("write to the data directory", write(fd, "x", 1));
    TRY("sync", fsync(fd));
    TRY("shorten", ftruncate(fd, 0));
    close(fd);
    TRY("rename in the data directory", rename(in(data, "probe-1"), in(data, "probe-2")));
    TRY("link a file in the data directory", link(in(data, "probe-2"), in(data, "probe-3")));
    unlink(in(data, "probe-2"));
    TRY("remove in the data directory", unlink(in(data, "probe-3")));
    TRY("read the configuration", opened(path("PROBE_CONFIG"), O_RDONLY));
    TRY("read an entry of sandbox_read", opened(in(path("PROBE_EXTRA"), "there"), O_RDONLY));
    TRY("read resolv.conf", opened("/etc/resolv.conf", O_RDONLY));
    TRY("read hosts", opened("/etc/hosts", O_RDONLY));
    TRY("read nsswitch.conf", opened("/etc/nsswitch.conf", O_RDONLY));
    TRY("list the system's certificates", listed("/etc/ssl/certs"));
    TRY("list the libraries", listed("/usr/lib"));
}

static int bound(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int result = bind(fd, (struct sockaddr *)&at, sizeof at), error = errno;
    close(fd);
    errno = error;
    return result;
}

// To the TCP port, or to the abstract Unix socket of this name.
static int connected(const char *port, const char *name) {
    int fd, result, error;
    if (port) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        result = connect(fd, (struct sockaddr *)&at, sizeof at);
    } else {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_un at = {.sun_family = AF_UNIX};
        strncpy(at.sun_path + 1, name, sizeof at.sun_path - 2);
        result = connect(fd, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    }
    error = errno;
    close(fd);
    errno = error;
    return result;
}

static int made(int family, int type, int protocol) {
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    if (fd < 0) return -1;
    close(fd);
    return 0;
}

static void network(void) {
    TRY("listen on another port", bound(0));
    TRY("see all packets", made(AF_PACKET, SOCK_RAW, 0));
    TRY("send raw packets", made(AF_INET, SOCK_RAW, 1));
    TRY("send raw packets over IPv6", made(AF_INET6, SOCK_RAW, 58));
    TRY("configure the firewall", made(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER));
    TRY("use the kernel's ciphers", made(AF_ALG, SOCK_SEQPACKET, 0));
    TRY("reach an abstract socket outside", connected(NULL, path("PROBE_ABSTRACT")));
    TRY("send a signal outside", kill(atoi(path("PROBE_PARENT")), 0));
    TRY("ask for routes", made(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    TRY("connect to any port", connected(path("PROBE_PORT"), NULL));
    struct addrinfo *found = NULL;
    say("look a name up", getaddrinfo("localhost", "80", NULL, &found) ? 1 : 0);
    if (found) freeaddrinfo(found);
}

static void *nothing(void *unused) { return unused; }

static volatile int reached, restricted;

static void on_thread(int signal) {
    (void)signal;
    int fd = open(path("PROBE_SECRET"), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && syscall(SYS_unshare, -1L) == -1 && errno == EPERM)
        __sync_fetch_and_add(&restricted, 1);
    if (fd >= 0) close(fd);
    __sync_fetch_and_add(&reached, 1);
}

// Each thread of the process tries to read a secret. /proc can't be listed, so all ids near that of the process are tried.
static void threads(void) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, nothing, NULL);
    say("start a thread", error);
    if (!error) pthread_join(thread, NULL);
    struct sigaction action = {.sa_handler = on_thread, .sa_flags = SA_RESTART};
    sigaction(SIGRTMIN + 5, &action, NULL);
    int all = 0;
    for (pid_t id = getpid(); id < getpid() + 2000; id++)
        if (syscall(SYS_tgkill, getpid(), id, SIGRTMIN + 5) == 0) all++;
    for (int i = 0; i < 5000 && reached < all; i++) usleep(1000);
    fprintf(out, "threads %d\nreached %d\nrestricted %d\n", all, reached, restricted);
}

static void on_signal(int signal) {
    (void)signal;
    const char *data = path("PROBE_DATA");
    out = fopen(in(data, "probe.part"), "we");
    if (!out) return;
    threads();
    system_calls();
    memory();
    files();
    allowed_files();
    network();
    fclose(out);
    rename(in(data, "probe.part"), in(data, "probe.txt"));
}

static void *forever(void *unused) {
    for (;;) pause();
    return unused;
}

__attribute__((constructor)) static void load(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR2, &action, NULL);
    pthread_t thread;
    if (getenv("PROBE_THREAD")) pthread_create(&thread, NULL, forever, NULL);
}
