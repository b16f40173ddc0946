//! Another daemon put where one runs, and the change over to it.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Host, wait_for};
use crate::harness::{Program, Subject, Whose};

/// The bit of SIGUSR1 in the mask of handled signals: of signal number n it is n - 1.
const USR1_BIT: u64 = 1 << 9;

impl Host {
    /// Puts `whose` daemon over the installed one and has the running one change over to it.
    ///
    /// # Panics
    ///
    /// When that does not come about, or the executable is not there.
    pub fn upgrade(&self, program: Program, whose: Whose) {
        let name = program.name();
        self.install(program, whose);
        let pid = self.pid(&format!("/run/{name}.pid"));
        let installed = self.identity(&format!("/usr/sbin/{name}"));
        self.signal("USR1", pid);
        wait_for("the daemon to be upgraded", || {
            assert!(self.has_process(pid), "{name} has ended");
            let current = self.identity(&format!("/proc/{pid}/exe")) == installed;
            // Whoever can be upgraded again has adopted everything.
            (current && self.handles_usr1(pid)).then_some(())
        });
    }

    /// A copy each time, which tells one generation from the next.
    fn install(&self, program: Program, whose: Whose) {
        static COPIES: AtomicUsize = AtomicUsize::new(0);
        let original = Subject { whose, program }.executable().expect("checked before");
        let copy = format!("/run/{}.{}", program.name(), COPIES.fetch_add(1, Ordering::Relaxed));
        let copied = Command::new("cp").arg(original).arg(self.outside(&copy)).status();
        assert!(copied.expect("cp can be run").success(), "copying the executable");
        self.run("mount", &["--bind", &copy, &format!("/usr/sbin/{}", program.name())]);
    }

    /// Device and inode of what is at `path`.
    fn identity(&self, path: &str) -> String {
        self.run("stat", &["--dereference", "--format=%d:%i", path])
    }

    fn handles_usr1(&self, pid: u32) -> bool {
        let status = self.read_text(&format!("/proc/{pid}/status"));
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(mask.unwrap_or("0").trim(), 16).expect("a mask");
        mask & USR1_BIT != 0
    }
}
