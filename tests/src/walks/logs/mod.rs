//! Walks of virtlogd: guests write numbered lines, and each log has every one of them, once and in
//! order, or says how many bytes were lost.

mod actions;
mod guest;
mod journey;
mod judge;
mod log;
mod others;
mod stream;

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

pub(super) use guest::live;
pub(super) use journey::travel;

use super::disk::Place;
use super::listed::{listed, of_path};
use super::step::Fault;
use super::walk::{Walk, eventually_ok};
use super::world::{Guests, World};
use crate::harness::now_us;
use crate::supervisor::{claims, patience};
use log::Log;
use others::Others;

/// A write that takes longer while the daemon serves has stalled its guest.
const STALL: Duration = Duration::from_secs(3);

/// How long a new process may take to have it proved what the store has, in microseconds.
const PROOF_US: u64 = 1_000_000;

/// How long a log may seem wrong while it is written or rotated under the judge's eyes.
const GLIMPSE: Duration = Duration::from_secs(2);

/// All logs of a walk.
#[derive(Debug, Default)]
pub(super) struct Logs {
    all: Vec<Log>,
    /// Numbers of guests, logs and managers' lines.
    last: u64,
    /// The process that is about to end ends orderly: these logs' guests were at rest before.
    at_rest: BTreeSet<String>,
    others: Others,
    /// How many processes there have been at the most.
    processes: usize,
}

impl Logs {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Somebody else appends to all logs, or does no more.
    fn see_to_others(&mut self, world: &World) {
        let is_at_work = world.has(Fault::OtherWriter);
        for log in &mut self.all {
            let only_appended = log.place == Place::Sick && world.has(Fault::AppendOnly);
            log.is_copied |= is_at_work || only_appended;
        }
        let targets = self.all.iter().filter(|_| is_at_work);
        let targets =
            targets.map(|log| (world.disk.path(log.place, &log.name), log.others.clone()));
        self.others.append_to(targets.collect());
    }

    /// Each log as it has to be now.
    fn check_logs(&mut self, world: &World) {
        for log in &mut self.all {
            log.was_wrong |= world.may_lack_bytes(log.place);
            log.overwritten_max = others::OVERWRITTEN_MAX * (self.processes + 1);
            expect_unhindered(world, log);
            if !log.is_idle() || world.may_lack_bytes(log.place) {
                expect_sound(world, log, GLIMPSE);
            } else {
                expect_complete(world, log);
            }
        }
    }

    /// By the tool's word: which logs are open, with which pipe, and how they are. What has ended may be
    /// open for a moment.
    ///
    /// # Errors
    /// Says what is not as it has to be.
    fn check_listed(&mut self, world: &World) -> Result<(), String> {
        let Some(items) = listed(world) else { return Ok(()) };
        let is_stored = world.is_store_trusted() && !world.is_store_wrong();
        for log in &mut self.all {
            let found = of_path(&items, &world.disk.path(log.place, &log.name));
            let is_right = match (&log.guest, &found[..]) {
                (None, found) => found.is_empty() || world.may_lack_bytes(log.place),
                (Some(_), [item]) => {
                    let is_whole = !log.is_idle()
                        || world.may_lack_bytes(log.place)
                        || (item["state"] == "ok"
                            && item["lost_bytes"]
                                .as_u64()
                                .is_some_and(|lost| log.may_list_lost(lost)));
                    item["pipe_inode"].as_u64() == Some(log.inode)
                        && is_whole
                        && (!is_stored || item["in_fd_store"] == true)
                }
                _ => false,
            };
            if !is_right {
                let (lost, before) = (log.lost, log.lost_before);
                return Err(format!(
                    "{}, which tells {lost} bytes as lost, {before:?} before, is listed as {found:?}",
                    log.describe()
                ));
            }
        }
        Ok(())
    }

    /// What the store has is what the journal claims, and all that was promised is there.
    ///
    /// # Errors
    /// Says what is not.
    fn check_store(&self, world: &World) -> Result<(), String> {
        let stored = world.service.supervisor.stored();
        let claims = claims(&stored).ok_or("there is no complete journal")?;
        let names: BTreeSet<_> = stored
            .iter()
            .map(|stored| stored.name.clone())
            .filter(|name| name.starts_with('l'))
            .collect();
        // What was removed is removed when the supervisor can be asked, which takes two pipes.
        let may_have_more = world.has(Fault::FdLimit) && names.is_superset(&claims.names());
        if names != claims.names() && !may_have_more {
            return Err(format!("the store has {names:?}, the journal claims {claims:?}"));
        }
        for log in self.all.iter().filter(|log| log.guest.is_some()) {
            if world.service.stored_name('l', log.inode).is_none() {
                return Err(format!("{} is not in the store", log.name));
            }
        }
        Ok(())
    }

    /// Whether a log is in the store and the journal says so.
    ///
    /// # Errors
    /// Says which of these is not so.
    fn is_kept(log: &Log, world: &World) -> Result<(), String> {
        let claims = claims(&world.service.supervisor.stored()).unwrap_or_default();
        let name = world.service.stored_name('l', log.inode).ok_or("it is not in the store")?;
        if claims.has_log(&name, &world.disk.path(log.place, &log.name)) {
            return Ok(());
        }
        Err(format!("it is in the store as {name}, of which the journal knows nothing"))
    }

    /// What is still to come of a log is in the store, unless nothing is.
    fn outlives_the_process(log: &mut Log, world: &World) -> Result<(), String> {
        let path = world.disk.beside(log.place, &log.name);
        let is_over = |log: &mut Log| {
            let verdict = log.judge(&path).ok().flatten();
            verdict.is_some_and(|verdict| log.is_complete(&verdict))
        };
        if log.guest.is_none() && is_over(log) { Ok(()) } else { Self::is_kept(log, world) }
    }
}

impl Guests for Logs {
    fn process_has_ended(&mut self, world: &World, by: Signal) {
        // Pipes of ours are not in the store for certain before the supervisor has said so.
        let is_new = now_us().saturating_sub(world.service.serves_since_us()) < PROOF_US;
        let may_lose_what_is_in_hand =
            by == Signal::SIGKILL && (is_new || !world.is_store_trusted());
        for mut log in std::mem::take(&mut self.all) {
            if by == Signal::SIGKILL && log.is_copied {
                // What was written last may be written again, as virtlogd/README.md says.
                continue;
            }
            log.was_wrong |= may_lose_what_is_in_hand;
            let Err(reason) = Self::outlives_the_process(&mut log, world) else {
                self.all.push(log);
                continue;
            };
            assert!(!world.is_store_trusted(), "{}: {reason}", log.describe());
            log.was_wrong |= world.is_wrong(log.place);
            // As without a store: what was in the pipe is stored when the daemon could.
            let is_stored =
                by == Signal::SIGTERM && self.at_rest.contains(&log.name) && !log.was_wrong;
            if is_stored {
                expect_complete(world, &mut log);
            } else {
                expect_sound(world, &mut log, GLIMPSE);
            }
        }
    }

    fn process_has_begun(&mut self, _world: &World) {}

    fn libvirt_takes_over(&mut self, world: &World) {
        let (given_up, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.all).into_iter().partition(|log| world.is_wrong(log.place));
        self.all = kept;
        for mut log in given_up {
            log.was_wrong = true;
            expect_sound(world, &mut log, GLIMPSE);
        }
    }
}

impl Walk for Logs {
    fn act(&mut self, world: &mut World, action: super::step::Action, number: u64) {
        self.perform(world, action, number);
    }

    fn before_event(&mut self) {
        self.processes += 2;
        self.all.iter_mut().for_each(Log::count_anew);
        self.at_rest =
            self.all.iter().filter(|log| log.is_idle()).map(|log| log.name.clone()).collect();
    }

    fn check(&mut self, world: &mut World) {
        self.see_to_others(world);
        eventually_ok("what is listed is right", patience(), || {
            // Each time: a guest that was writing may have come to an end since, and losses may be told.
            self.check_logs(world);
            self.check_listed(world)
        });
        if world.is_store_wrong() {
            return;
        }
        if world.is_store_trusted() {
            eventually_ok("the store is as it should be", patience(), || self.check_store(world));
        } else if self.check_store(world).is_ok() {
            world.store_is_complete();
        }
    }

    fn is_stored(&self, world: &World) -> Result<(), String> {
        self.check_store(world)
    }

    fn finish(&mut self, world: &mut World) {
        self.others.end();
        for log in &mut self.all {
            eventually_ok("the guest need not wait", patience(), || match log.is_idle() {
                true => Ok(()),
                false => Err(log.describe()),
            });
            log.kill_guest();
        }
        self.check_logs(world);
        self.all.clear();
        if !world.is_store_wrong() {
            eventually_ok("nothing of a log stays in the store", patience(), || {
                let names = world.service.supervisor.names();
                let left: Vec<_> = names.iter().filter(|name| name.starts_with('l')).collect();
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            });
        }
    }
}

/// A guest has no error, and has waited for nothing but the daemon's absence.
fn expect_unhindered(world: &World, log: &Log) {
    let progress = log.progress();
    assert!(progress.errno == 0, "the guest of {} cannot write", log.describe());
    let (from, to) = progress.slowest_us;
    let waited =
        Duration::from_micros(to.saturating_sub(from.max(world.service.serves_since_us())));
    assert!(waited < STALL, "the guest of {} has waited {waited:?}", log.describe());
}

/// What the log has is right, as far as it goes.
fn expect_sound(world: &World, log: &mut Log, patience: Duration) {
    let path = world.disk.beside(log.place, &log.name);
    let what = log.describe();
    eventually_ok(&what, patience, || log.judge(&path).map(drop));
}

/// The log has everything.
fn expect_complete(world: &World, log: &mut Log) {
    let path = world.disk.beside(log.place, &log.name);
    if log.is_as_seen(&path) {
        return log.note_unchanged();
    }
    let what = log.describe();
    eventually_ok(&what, patience(), || {
        let verdict = log.judge(&path)?.ok_or("it is being rotated")?;
        if !log.is_complete(&verdict) {
            return Err(format!("it is not complete: {verdict:?}"));
        }
        log.note_seen(&path);
        Ok(())
    });
}
