//! Older kernels, as far as a daemon sees.

use std::path::PathBuf;
use std::process::Command;

use nix::libc;

use super::{Host, left_out};

/// What [`crate::harness::Setup::peer_pidfds_fail`] has the kernel answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPeerPidfd {
    /// Linux before 6.5.
    Unknown,
    /// Linux 6.5 to 6.15, when the process has ended and was reaped.
    HasEnded,
}

/// Executes its arguments behind the first under a filter: that error for `SO_PEERPIDFD`.
const SCRIPT: &str = r#"
use POSIX ();
my %numbers = (x86_64 => [0xC000003E, 55, 317], aarch64 => [0xC00000B7, 209, 277]);
my ($arch, $getsockopt, $seccomp) = @{$numbers{(POSIX::uname())[4]} or die "which machine is it?"};
my $errno = shift;
my ($load, $skip_unless, $return) = (0x20, 0x15, 0x06);
my $filter = pack "(SCCL)*",
    $load, 0, 0, 4, $skip_unless, 0, 7, $arch,
    $load, 0, 0, 0, $skip_unless, 0, 5, $getsockopt,
    $load, 0, 0, 24, $skip_unless, 0, 3, 1,
    $load, 0, 0, 32, $skip_unless, 0, 1, 77,
    $return, 0, 0, 0x00050000 | $errno, $return, 0, 0, 0x7fff0000;
my $program = pack "Sx6P", length($filter) / 8, $filter;
syscall($seccomp, 1, 0, $program) == 0 or die "seccomp: $!";
exec @ARGV or die "exec: $!";
"#;

impl NoPeerPidfd {
    /// What runs a daemon so.
    pub(super) fn words(self) -> [String; 4] {
        let errno = match self {
            Self::Unknown => libc::ENOPROTOOPT,
            Self::HasEnded => libc::ESRCH,
        };
        ["perl", "-e", SCRIPT, &errno.to_string()].map(str::to_owned)
    }
}

/// What `execve` does before Linux 5.11 (5.10.220) to a process of several threads: every POSIX lock is
/// gone, as if all files had been closed.
const OLD_EXEC: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int has_threads(void)
{
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t count = read(fd, text, sizeof text - 1);
    int threads = 1;
    close(fd);
    text[count > 0 ? count : 0] = 0;
    char *line = strstr(text, "Threads:");
    return line && sscanf(line, "Threads: %d", &threads) == 1 && threads > 1;
}

int execve(const char *path, char *const arguments[], char *const environment[])
{
    int (*next)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execve");
    if (has_threads()) {
        for (int fd = 3; fd < 1024; fd++) {
            char name[32];
            struct stat found;
            if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
                snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
                close(open(name, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
            }
        }
        usleep(200000);
    }
    return next(path, arguments, environment);
}
"#;

/// A library that makes `execve` what it was; for `LD_PRELOAD`. Says so if there is no C compiler.
pub fn old_exec(host: &Host) -> Option<PathBuf> {
    let (source, library) = (host.path("exec.c"), host.path("exec.so"));
    std::fs::write(&source, OLD_EXEC).expect("writing a program");
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if compiled.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    left_out("an exec as before Linux 5.11", "no C compiler is here");
    None
}
