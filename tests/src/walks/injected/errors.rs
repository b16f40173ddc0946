//! The errors of each system call that its manual names and that the machine may be the cause of.
//!
//! Not here are those that only a fault of the program's own explains (`EBADF`, `EFAULT`, `EINVAL` for the most
//! part), and those that would be a lie about what stands still there: with `EAGAIN` from a socket that
//! has something to read the next event never comes, with `EPIPE` or `ECONNRESET` its other end has gone,
//! with `ESRCH` the process. `EACCES` of `connect` or `socket` does not pass.
//! `EPERM` and `ENOSYS` for good, as a filter has it, are the matter of `refused_calls`.

use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::injection::Injection;
use crate::seccomp::Notified;

/// The errors of a call; `None` when nobody has looked into its manual yet.
pub(super) fn of(call: &str) -> Option<Vec<Errno>> {
    let row = ROWS.iter().find(|(names, _)| names.split(' ').any(|name| name == call));
    let number = |name: &str| {
        let mut all = (1..=Errno::EHWPOISON as i32).map(Errno::from_raw);
        all.find(|errno| format!("{errno:?}") == name).expect("the name of an error")
    };
    row.map(|(_, errors)| errors.split_whitespace().map(number).collect())
}

/// Whether an error can be that of a call: what is read from and written to pipes, sockets and events
/// does not come to a disk and, as none of these blocks, is not interrupted; an fd is looked at without
/// a path.
pub(super) fn may_come_from(injection: &Injection, call: &Notified) -> bool {
    const DISKS: [Errno; 7] = [
        Errno::EDQUOT,
        Errno::EFBIG,
        Errno::EINTR,
        Errno::EIO,
        Errno::EISDIR,
        Errno::ENOSPC,
        Errno::EPERM,
    ];
    const PATHS: [Errno; 5] =
        [Errno::EACCES, Errno::ELOOP, Errno::ENAMETOOLONG, Errno::ENOENT, Errno::ENOTDIR];
    const OTHERS: [&str; 3] = ["pipe:", "socket:", "anon_inode:"];
    let object = call.object().unwrap_or_default();
    let is_other =
        OTHERS.iter().any(|name| object.as_os_str().as_bytes().starts_with(name.as_bytes()));
    let is_lie = match &*call.name {
        "read" | "write" => is_other && DISKS.contains(&injection.errno),
        _ => !call.has_path() && PATHS.contains(&injection.errno),
    };
    !is_lie && !call.is_question()
}

/// What the manuals say of paths that somebody is looked for by.
macro_rules! path {
    ($more:literal) => {
        concat!("EACCES EIO ELOOP ENAMETOOLONG ENOENT ENOMEM ENOTDIR ", $more)
    };
}

/// Calls, and their errors.
const ROWS: [(&str, &str); 56] = [
    ("accept accept4", "ECONNABORTED EINTR EMFILE ENFILE ENOBUFS ENOMEM EPERM EPROTO"),
    ("access", path!("EROFS ETXTBSY")),
    ("bind", path!("EADDRINUSE EROFS")),
    ("brk madvise mprotect mremap munmap", "ENOMEM"),
    ("chdir", path!("")),
    ("chmod chown fchmod fchmodat", path!("EPERM EROFS")),
    ("clock_nanosleep restart_syscall", "EINTR"),
    ("clone clone3", "EAGAIN ENOMEM"),
    // It closes, whatever it says; a call that is not made does not.
    ("close", ""),
    ("close_range", "EMFILE ENOMEM"),
    ("connect", "EAGAIN ECONNREFUSED EINTR ENOENT"),
    ("copy_file_range sendfile", "EFBIG EIO ENOMEM ENOSPC EOPNOTSUPP EXDEV"),
    ("dup dup2 fcntl:F_DUPFD fcntl:F_DUPFD_CLOEXEC", "EMFILE"),
    ("epoll_create1", "EMFILE ENFILE ENOMEM"),
    ("epoll_ctl", "ENOMEM ENOSPC"),
    ("epoll_wait epoll_pwait", "EINTR"),
    ("eventfd2", "EMFILE ENFILE ENODEV ENOMEM"),
    (
        "execve",
        "E2BIG EACCES EAGAIN EIO EISDIR ELOOP EMFILE ENFILE ENOENT ENOEXEC ENOMEM EPERM ETXTBSY",
    ),
    ("fcntl:F_ADD_SEALS", "EBUSY EPERM"),
    ("fcntl:F_GET_SEALS", "EINVAL"),
    ("fcntl:F_OFD_SETLK fcntl:F_SETLK", "EACCES EAGAIN EINTR ENOLCK"),
    ("fcntl:F_SETLKW", "EDEADLK EINTR ENOLCK"),
    ("fcntl:F_SETPIPE_SZ", "EBUSY ENOMEM EPERM"),
    ("fstat lstat newfstatat stat statx", path!("EOVERFLOW")),
    ("fstatfs statfs", path!("EINTR EOVERFLOW")),
    ("ftruncate", "EFBIG EINTR EIO ENOSPC EPERM EROFS ETXTBSY"),
    ("futex:FUTEX_WAIT futex:FUTEX_WAIT_BITSET futex:FUTEX_WAIT_BITSET_SHARED", "EAGAIN EINTR"),
    ("getcwd", "EACCES ENOENT ENOMEM"),
    ("getdents64", "ENOENT EIO"),
    ("getrandom", "EINTR"),
    ("getsockname", "ENOBUFS"),
    ("getsockopt:SO_PEERPIDFD", "EMFILE ENOPROTOOPT"),
    ("ioctl:TCGETS ioctl:TIOCGWINSZ ioctl:FIONREAD", "ENOTTY"),
    ("kill pidfd_send_signal tgkill", "EPERM"),
    ("listen", "EADDRINUSE"),
    ("memfd_create", "EMFILE ENFILE ENOMEM EPERM"),
    ("mkdir mkdirat", path!("EDQUOT EEXIST EMLINK ENOSPC EPERM EROFS")),
    ("mmap", "EAGAIN ENOMEM"),
    (
        "openat openat2",
        path!(
            "EBUSY EDQUOT EEXIST EINTR EISDIR EMFILE ENFILE ENODEV ENOSPC ENXIO EOPNOTSUPP EOVERFLOW EPERM \
             EROFS ETXTBSY"
        ),
    ),
    ("pidfd_open", "EMFILE ENFILE ENODEV ENOMEM"),
    ("pipe2 socketpair", "EMFILE ENFILE"),
    ("poll ppoll", "EINTR ENOMEM"),
    ("pread64 read", "EINTR EIO EISDIR"),
    ("prlimit64 setsid", "EPERM"),
    ("pwrite64 write", "EDQUOT EFBIG EINTR EIO ENOSPC EPERM"),
    ("splice", "EDQUOT EFBIG EINTR EIO ENOMEM ENOSPC EPERM"),
    ("tee", "ENOMEM"),
    ("readlink readlinkat", path!("EINVAL")),
    ("recvfrom recvmsg", "EINTR ENOMEM"),
    (
        "rename renameat unlink unlinkat",
        path!("EBUSY EDQUOT EEXIST EISDIR EMLINK ENOSPC EPERM EROFS EXDEV"),
    ),
    ("sendmsg sendto", "EACCES ECONNREFUSED EINTR EMSGSIZE ENOBUFS ENOENT ENOMEM ETOOMANYREFS"),
    ("shutdown", "ENOTCONN"),
    ("sigaltstack", "ENOMEM"),
    ("socket", "EMFILE ENFILE ENOBUFS ENOMEM"),
    ("wait4 waitid", "EINTR"),
    (
        "arch_prctl exit exit_group fcntl:F_GETFD fcntl:F_GETFL fcntl:F_GETLK fcntl:F_GETPIPE_SZ \
         fcntl:F_OFD_GETLK fcntl:F_SETFD fcntl:F_SETFL \
         futex:FUTEX_WAKE getegid geteuid getgid getpid getsockopt:SO_ACCEPTCONN getsockopt:SO_DOMAIN \
         getsockopt:SO_ERROR getsockopt:SO_PEERCRED getsockopt:SO_PROTOCOL getsockopt:SO_TYPE gettid \
         getuid ioctl:FIOCLEX ioctl:FIONBIO lseek prctl rseq rt_sigaction rt_sigprocmask rt_sigreturn \
         sched_getaffinity sched_yield set_robust_list set_tid_address setsockopt umask uname",
        "",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp;

    #[test]
    fn names_are_those_of_calls_and_errors() {
        for call in ROWS.iter().flat_map(|(names, _)| names.split_whitespace()) {
            let is_elsewhere = call == "epoll_pwait" || cfg!(not(target_arch = "x86_64"));
            assert!(is_elsewhere || seccomp::named(call).is_ok(), "{call}");
            assert!(of(call).is_some(), "{call}");
        }
        assert_eq!(of("fly"), None);
    }
}
