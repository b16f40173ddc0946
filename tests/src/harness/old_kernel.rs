//! An older kernel, as far as a daemon sees.

use std::path::PathBuf;
use std::process::Command;

use super::{Host, left_out};

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
