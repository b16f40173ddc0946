//! The calls, and what a start without one looks like.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use nix::errno::Errno;
use tests::harness::{Daemon, Program, Setup, Subject, Whose, refusing};
use tests::supervisor::Origin;

use Program::{Virtlockd, Virtlogd};
use Start::{Fails, Serves, Tells, TellsOne};

/// What a daemon does about it when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: nobody notices.
    Serves,
    /// It says what it costs.
    Tells,
    /// The same, if it is this daemon.
    TellsOne(Program),
    /// It does not serve, and says why.
    Fails,
}

/// Calls, in the words of `refusing`, and what comes of it.
pub(crate) const CASES: [(&str, Start); 42] = [
    ("accept4", Serves),
    ("chmod", Serves),
    ("chown", Serves),
    ("clock_nanosleep", Serves),
    ("clone3", Fails),
    ("close_range", Serves),
    ("copy_file_range", Serves),
    ("epoll_create1", Fails),
    ("epoll_ctl", Fails),
    ("epoll_wait", Fails),
    ("eventfd2", Serves),
    ("fcntl:F_ADD_SEALS", Serves),
    ("fcntl:F_DUPFD_CLOEXEC", Fails),
    ("fcntl:F_GETPIPE_SZ", Serves),
    ("fcntl:F_GET_SEALS", Serves),
    ("fcntl:F_OFD_SETLK", TellsOne(Virtlockd)),
    ("fcntl:F_SETPIPE_SZ", Serves),
    ("getcwd", Serves),
    ("getsockopt:SO_PEERPIDFD", Serves),
    ("ioctl:FIONREAD", Serves),
    ("memfd_create", Tells),
    ("openat2", Serves),
    ("pidfd_open", TellsOne(Virtlockd)),
    ("pidfd_send_signal", TellsOne(Virtlockd)),
    ("pwrite64", Serves),
    ("readlinkat", Serves),
    ("recvfrom", Serves),
    ("recvmsg", Serves),
    ("rename", Serves),
    ("renameat", Serves),
    ("sendfile", Serves),
    ("sendto", Serves),
    ("setsockopt", Serves),
    ("shutdown", Serves),
    ("sigaltstack", Serves),
    ("socketpair", Serves),
    ("splice", TellsOne(Virtlogd)),
    ("statx", Serves),
    ("tee", TellsOne(Virtlogd)),
    ("timerfd_create", Serves),
    ("unlinkat", Serves),
    ("wait4", Serves),
];

/// What libvirt's daemons need, as `strace` shows it, and the few that ours cannot do without.
#[cfg(target_arch = "x86_64")]
const NEEDED: &str = "!accept,access,arch_prctl,bind,brk,chdir,clone,clone3,close,connect,dup,dup2,\
    execve,exit,exit_group,fcntl:F_GETFD,fcntl:F_GETFL,fcntl:F_SETFD,fcntl:F_SETFL,fcntl:F_SETLK,\
    fcntl:F_SETLKW,fstatfs,ftruncate,futex,getdents64,getegid,geteuid,getgid,getpid,getrandom,\
    getsockname,getsockopt,gettid,getuid,ioctl:TCGETS,kill,listen,lseek,madvise,mkdir,mmap,mprotect,\
    mremap,munmap,newfstatat,openat,pipe2,poll,prctl,pread64,prlimit64,read,readlink,recvmsg,rename,\
    restart_syscall,rseq,rt_sigaction,rt_sigprocmask,rt_sigreturn,sched_getaffinity,sendmsg,\
    set_robust_list,set_tid_address,setsid,socket,statfs,umask,uname,unlink,write,\
    epoll_create1,epoll_ctl,epoll_wait,fcntl:F_DUPFD_CLOEXEC";

/// A daemon of ours that is refused calls.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) program: Program,
    errno: Errno,
    calls: Vec<(&'static str, Start)>,
    /// In the words of `refusing`.
    names: String,
}

impl Refused {
    /// One after the other, then all at once, and at last all that libvirt's daemons do without.
    pub(crate) fn each(program: Program, errno: Errno) -> impl Iterator<Item = Self> {
        // libvirt's virtlogd rotates logs with it.
        let is_needed = move |call| program == Virtlogd && call == "rename";
        let calls = CASES.into_iter().filter(move |(call, _)| !is_needed(*call));
        let one_by_one = calls.clone().map(|call| vec![call]);
        let together: Vec<_> =
            calls.filter(move |&(call, start)| !fails(call, start, errno)).collect();
        let all = one_by_one.chain([together.clone()]).map(move |calls| {
            let names = calls.iter().map(|(call, _)| *call).collect::<Vec<_>>().join(",");
            Self { program, errno, calls, names }
        });
        #[cfg(target_arch = "x86_64")]
        let all = all.chain([Self { program, errno, calls: together, names: NEEDED.to_owned() }]);
        all
    }

    /// The daemon, not started yet.
    pub(crate) fn setup(&self) -> Setup {
        eprintln!("{:?}, {} for {}", self.program, self.errno, self.names);
        let subject = Subject { whose: Whose::Ours, program: self.program };
        subject.setup().refusing(self.errno, &self.names).replaceable()
    }

    /// The same under a supervisor.
    pub(crate) fn origin(&self) -> Origin {
        let through = refusing(self.errno, &self.names).to_vec();
        Origin { through, ..Origin::default() }
    }

    /// Starts the daemon, which says what has to be said; `None` if it does not serve.
    pub(crate) fn start(&self, setup: Setup) -> Option<Daemon> {
        let needed = self.calls.iter().find(|(call, start)| fails(call, *start, self.errno));
        if let Some((call, _)) = needed {
            let exit = setup.run();
            assert_eq!(exit.code, Some(3), "without {call}: {}", exit.stderr);
            assert!(exit.stderr.contains(&told(call)), "without {call}: {}", exit.stderr);
            return None;
        }
        let daemon = setup.start();
        let is_told = |start: Start| start == Tells || start == TellsOne(self.program);
        for (call, _) in self.calls.iter().filter(|(_, start)| is_told(*start)) {
            daemon.expect_said(&told(call));
        }
        let said = daemon.stderr();
        for (call, _) in self.calls.iter().filter(|(_, start)| !is_told(*start)) {
            assert!(!said.contains(&told(call)), "without {call}: {said}");
        }
        Some(daemon)
    }

    /// Whether the daemon does without this one.
    pub(crate) fn lacks(&self, call: &str) -> bool {
        self.calls.iter().any(|(name, _)| *name == call)
    }

    /// Whether a process is known by something else than a pidfd, or signalled otherwise.
    pub(crate) fn lacks_pidfds(&self) -> bool {
        ["pidfd_open", "pidfd_send_signal", "getsockopt:SO_PEERPIDFD"]
            .iter()
            .any(|call| self.lacks(call))
    }
}

fn told(call: &str) -> String {
    format!("he system call {call} is refused")
}

/// The C library does without `clone3` where that is unknown.
fn fails(call: &str, start: Start, errno: Errno) -> bool {
    start == Fails && (call, errno) != ("clone3", Errno::ENOSYS)
}

/// What is passed to the process of a service must not go to another one that is started meanwhile.
static STARTING: RwLock<()> = RwLock::new(());

/// Nobody may pass anything meanwhile.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody else starts a process meanwhile.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    STARTING.write().unwrap_or_else(PoisonError::into_inner)
}
