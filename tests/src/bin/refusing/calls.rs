//! Names of system calls, and what the kernel calls them.

use nix::libc;

/// A system call, or one of the things that it is used for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) number: u32,
    /// Which argument says what it is used for, counted from 0, and what it has to be.
    pub(super) command: Option<(u32, u32)>,
}

/// The call with this name, such as `splice` or `fcntl:F_OFD_SETLK`.
pub(super) fn named(name: &str) -> Result<Call, String> {
    find(name).ok_or_else(|| name.to_owned())
}

fn find(name: &str) -> Option<Call> {
    let Some((call, command)) = name.split_once(':') else {
        return Some(Call { number: number(name)?, command: None });
    };
    let argument = match call {
        "fcntl" | "ioctl" => 1,
        "getsockopt" => 2,
        _ => return None,
    };
    Some(Call { number: number(call)?, command: Some((argument, value(command)?)) })
}

fn number(call: &str) -> Option<u32> {
    let mut all = numbers().into_iter().chain(older_numbers());
    all.find(|(name, _)| name.strip_prefix("SYS_") == Some(call))?.1
}

fn value(command: &str) -> Option<u32> {
    commands().into_iter().find(|(name, _)| *name == command)?.1
}

/// Names with their values.
macro_rules! named {
    ($($name:ident)+) => { vec![$((stringify!($name), u32::try_from(libc::$name).ok())),+] };
}

fn commands() -> Vec<(&'static str, Option<u32>)> {
    named! {
        F_ADD_SEALS F_DUPFD_CLOEXEC F_GETFD F_GETFL F_GETPIPE_SZ F_GET_SEALS F_OFD_SETLK
        F_SETFD F_SETFL F_SETLK F_SETLKW F_SETPIPE_SZ
        FIONREAD TCGETS
        SO_PEERPIDFD
    }
}

fn numbers() -> Vec<(&'static str, Option<u32>)> {
    named! {
        SYS_accept SYS_accept4 SYS_bind SYS_brk SYS_chdir SYS_clock_nanosleep SYS_clone SYS_clone3 SYS_close
        SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_epoll_create1 SYS_epoll_ctl
        SYS_eventfd2 SYS_execve SYS_exit SYS_exit_group SYS_fchmod SYS_fchmodat SYS_fcntl
        SYS_fstat SYS_fstatfs SYS_ftruncate SYS_futex SYS_getcwd SYS_getdents64 SYS_getegid
        SYS_geteuid SYS_getgid SYS_getpid SYS_getrandom SYS_getsockname SYS_getsockopt SYS_gettid
        SYS_getuid SYS_ioctl SYS_kill SYS_listen SYS_lseek SYS_madvise SYS_memfd_create
        SYS_mkdirat SYS_mmap SYS_mprotect SYS_mremap SYS_munmap SYS_openat SYS_openat2 SYS_pidfd_open
        SYS_pidfd_send_signal SYS_pipe2 SYS_ppoll SYS_prctl SYS_pread64 SYS_prlimit64 SYS_pwrite64
        SYS_read SYS_readlinkat SYS_recvfrom SYS_recvmsg SYS_renameat SYS_restart_syscall SYS_rseq
        SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sched_getaffinity SYS_sendfile
        SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setsid SYS_setsockopt
        SYS_shutdown SYS_sigaltstack SYS_socket SYS_socketpair SYS_splice SYS_statfs SYS_statx
        SYS_tee SYS_umask SYS_uname SYS_unlinkat SYS_wait4 SYS_waitid SYS_write
    }
}

/// Those that newer architectures do without.
#[cfg(target_arch = "x86_64")]
fn older_numbers() -> Vec<(&'static str, Option<u32>)> {
    named! {
        SYS_access SYS_arch_prctl SYS_chmod SYS_chown SYS_dup2 SYS_epoll_wait SYS_mkdir SYS_newfstatat
        SYS_poll SYS_readlink SYS_rename SYS_unlink
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn older_numbers() -> Vec<(&'static str, Option<u32>)> {
    named! { SYS_epoll_pwait SYS_newfstatat }
}
