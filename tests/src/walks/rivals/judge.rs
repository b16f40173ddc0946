//! Whether all is as it is owed: by the kernel's word, and by who lives.

use std::fs;

use nix::sys::signal::Signal;

use super::kernel::Mode;
use super::stranger::Kind;
use super::{File, Rivals};
use crate::load::is_free;
use crate::supervisor::patience;
use crate::walks::locks::{self, Lock};
use crate::walks::walk::eventually_ok;

impl Rivals {
    /// Checks all that can be told between two steps.
    pub(super) fn check(&mut self) {
        // What came before that call has been seen to.
        self.service.expect_serving();
        self.check_guests();
        for name in std::mem::take(&mut self.model.gone) {
            eventually_ok("a file is removed", patience(), || {
                let is_there = fs::symlink_metadata(name.path()).is_ok();
                if is_there { Err(format!("{name:?} is there")) } else { Ok(()) }
            });
        }
        eventually_ok("the kernel's locks are right", patience(), || self.check_locks());
        self.check_contender();
        self.model.seen = self.names.look();
    }

    /// Everybody leaves, and nothing is locked.
    pub(super) fn finish(&mut self) {
        for file in self.strangers.keys().copied().collect::<Vec<_>>() {
            self.unlock_file(file);
        }
        while let Some(guest) = self.guests.last() {
            guest.signal(Signal::SIGKILL);
            let pid = guest.owner.pid;
            self.see_ended(pid);
        }
        // Of libvirt's daemon somebody has to fetch what the dead had.
        for (name, owners) in self.model.held() {
            for owner in owners {
                let mut client = self.manager(owner);
                client.release(&name.space, &name.name, 0).expect("a lease can be given back");
                self.model.release(&name, owner);
            }
        }
        self.check();
        let locked = self.names.files.keys().filter(|&&file| self.model.lock(file).is_some());
        assert_eq!(locked.count(), 0, "nobody has a lease");
    }

    fn check_guests(&self) {
        for guest in &self.guests {
            assert!(guest.is_running(), "{guest:?} has been ended");
            assert!(guest.is_spared || !guest.is_asked_to_end(), "{guest:?} has been asked to end");
        }
    }

    fn check_locks(&self) -> Result<(), String> {
        let all = locks::all();
        for (&file, path) in &self.names.files {
            let found = self.daemons_lock(file, &all)?;
            let owed = self.model.lock(file);
            if found != owed {
                let all = self.model.describe();
                return Err(format!("{path:?} {file:?}: {found:?}, not {owed:?}\n{all}"));
            }
        }
        Ok(())
    }

    /// The daemon's strongest lock.
    fn daemons_lock(&self, file: File, all: &[Lock]) -> Result<Option<Mode>, String> {
        let mut its: Vec<_> = all.iter().filter(|lock| lock.file == file).collect();
        if let Some(&(kind, mode)) = self.strangers.get(&file) {
            let is_exclusive = mode == Mode::Exclusive;
            let pid = (kind == Kind::Posix).then_some(self.stranger_pid);
            let index =
                its.iter().position(|lock| lock.pid == pid && lock.is_exclusive == is_exclusive);
            its.remove(index.ok_or_else(|| format!("a stranger has lost its lock on {file:?}"))?);
        }
        let mode = |lock: &Lock| if lock.is_exclusive { Mode::Exclusive } else { Mode::Shared };
        Ok(its.into_iter().map(mode).max())
    }

    /// Whoever tries gets no file that is leased.
    fn check_contender(&self) {
        for (&file, path) in &self.names.files {
            if self.model.lock(file).is_some() {
                let path = path.to_str().expect("ASCII");
                assert!(!is_free(path), "a stranger could lock {path}, {file:?}");
            }
        }
    }
}
