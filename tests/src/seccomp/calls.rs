//! Names of system calls, and what the kernel calls them.

use nix::libc;

/// A system call, or one of the things that it is used for.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub(super) number: u32,
    /// Which argument says what it is used for, counted from 0, and what it has to be.
    pub(super) command: Option<(u32, u32)>,
}

/// The call with this name, such as `splice` or `fcntl:F_OFD_SETLK`.
///
/// # Errors
/// The name, when no call has it.
pub fn named(name: &str) -> Result<Call, String> {
    find(name).ok_or_else(|| name.to_owned())
}

/// The name of the call with this number and these arguments; numbers in place of what has no name here.
pub fn name(number: u32, arguments: &[u64]) -> String {
    let mut all = numbers().into_iter().chain(older_numbers());
    let Some((call, _)) = all.find(|(_, of)| *of == Some(number)) else {
        return format!("call {number}");
    };
    let call = call.trim_start_matches("SYS_");
    let Some((index, prefixes)) = command_of(call) else { return call.to_owned() };
    // The kernel takes the lower half.
    let value = arguments.get(index as usize).map(|&argument| argument & u64::from(u32::MAX));
    let is_one = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let mut commands = commands().into_iter().filter(|(name, _)| is_one(name));
    match commands.find(|(_, of)| of.map(u64::from) == value) {
        Some((command, _)) => format!("{call}:{command}"),
        None => format!("{call}:{:#x}", value.unwrap_or_default()),
    }
}

fn find(name: &str) -> Option<Call> {
    let Some((call, command)) = name.split_once(':') else {
        return Some(Call { number: number(name)?, command: None });
    };
    let (argument, _) = command_of(call)?;
    Some(Call { number: number(call)?, command: Some((argument, value(command)?)) })
}

/// Which argument of a call says what it is used for, and how the names of that begin.
fn command_of(call: &str) -> Option<(u32, &'static [&'static str])> {
    match call {
        "fcntl" => Some((1, &["F_"])),
        "ioctl" => Some((1, &["FIO", "TC", "TIO"])),
        "futex" => Some((1, &["FUTEX_"])),
        "getsockopt" => Some((2, &["SO_"])),
        _ => None,
    }
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
    let mut commands = named! {
        F_ADD_SEALS F_DUPFD F_DUPFD_CLOEXEC F_GETFD F_GETFL F_GETLK F_GETPIPE_SZ F_GET_SEALS F_OFD_GETLK
        F_OFD_SETLK F_SETFD F_SETFL F_SETLK F_SETLKW F_SETPIPE_SZ
        FIOCLEX FIONBIO FIONREAD TCGETS TIOCGWINSZ
        SO_ACCEPTCONN SO_DOMAIN SO_ERROR SO_PEERCRED SO_PEERPIDFD SO_PROTOCOL SO_TYPE
    };
    let private =
        |name, operation: i32| (name, u32::try_from(operation | libc::FUTEX_PRIVATE_FLAG).ok());
    commands.extend([
        private("FUTEX_WAIT", libc::FUTEX_WAIT),
        private("FUTEX_WAIT_BITSET", libc::FUTEX_WAIT_BITSET),
        private("FUTEX_WAKE", libc::FUTEX_WAKE),
        ("FUTEX_WAIT_BITSET_SHARED", u32::try_from(WAIT_FOR_THREAD).ok()),
    ]);
    commands
}

/// As the C library waits for a thread's end.
const WAIT_FOR_THREAD: i32 = libc::FUTEX_WAIT_BITSET | libc::FUTEX_CLOCK_REALTIME;

fn numbers() -> Vec<(&'static str, Option<u32>)> {
    named! {
        SYS_accept SYS_accept4 SYS_acct SYS_add_key SYS_bind SYS_bpf SYS_brk SYS_chdir SYS_clock_nanosleep SYS_clone SYS_clone3 SYS_close
        SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_epoll_create1 SYS_epoll_ctl
        SYS_eventfd2 SYS_execve SYS_exit SYS_exit_group SYS_fchmod SYS_fchmodat SYS_fcntl
        SYS_fstat SYS_fstatfs SYS_ftruncate SYS_futex SYS_getcwd SYS_getdents64 SYS_getegid
        SYS_geteuid SYS_getgid SYS_getpid SYS_getrandom SYS_getsockname SYS_getsockopt SYS_gettid
        SYS_getuid SYS_ioctl SYS_kcmp SYS_keyctl SYS_kill SYS_listen SYS_lseek SYS_madvise SYS_memfd_create
        SYS_mkdirat SYS_mmap SYS_mount SYS_mprotect SYS_mremap SYS_munmap SYS_open_by_handle_at SYS_openat
        SYS_openat2 SYS_perf_event_open SYS_pivot_root SYS_reboot SYS_setns SYS_swapoff SYS_swapon
        SYS_syslog SYS_umount2 SYS_unshare SYS_userfaultfd SYS_pidfd_open
        SYS_pidfd_send_signal SYS_pipe2 SYS_ppoll SYS_prctl SYS_pread64 SYS_prlimit64 SYS_pwrite64
        SYS_read SYS_readlinkat SYS_recvfrom SYS_recvmsg SYS_renameat SYS_restart_syscall SYS_rseq
        SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sched_getaffinity SYS_sched_yield
        SYS_sendfile SYS_sendmsg SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setsid
        SYS_setsockopt SYS_shutdown SYS_sigaltstack SYS_socket SYS_socketpair SYS_splice SYS_statfs
        SYS_statx SYS_tee SYS_tgkill SYS_timerfd_create SYS_umask SYS_uname SYS_unlinkat SYS_wait4 SYS_waitid SYS_write
    }
}

/// Those that newer architectures do without.
#[cfg(target_arch = "x86_64")]
fn older_numbers() -> Vec<(&'static str, Option<u32>)> {
    named! {
        SYS_access SYS_arch_prctl SYS_chmod SYS_chown SYS_dup2 SYS_epoll_wait SYS_lstat SYS_mkdir
        SYS_newfstatat SYS_poll SYS_readlink SYS_rename SYS_stat SYS_unlink
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn older_numbers() -> Vec<(&'static str, Option<u32>)> {
    named! { SYS_epoll_pwait SYS_newfstatat }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_calls_belong_together() {
        for text in ["splice", "fcntl:F_OFD_SETLK", "ioctl:FIONREAD", "getsockopt:SO_ERROR"] {
            let Call { number, command } = named(text).unwrap();
            let (index, value) = command.unwrap_or_default();
            let mut arguments = [0; 6];
            arguments[index as usize] = value.into();
            assert_eq!(name(number, &arguments), text);
        }
        assert!(named("fly").is_err());
        assert_eq!(name(99_999, &[]), "call 99999");
        assert_eq!(name(named("fcntl").unwrap().number, &[0, 0x7777]), "fcntl:0x7777");
    }
}
