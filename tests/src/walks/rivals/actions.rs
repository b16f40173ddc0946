//! What is done, and that it is answered as is owed.

use nix::libc;

use super::kernel::{Holder, Mode};
use super::names::Name;
use super::owed::{Answer, Owner, Terms};
use super::stranger::Kind;
use super::{LockClient, Rivals};
use crate::random::Random;
use crate::walks::step::Action;
use crate::walks::tally::Tally;
use crate::wire::{ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, RpcError};

/// Calls out of a hundred that come over a connection that was there before.
const SESSION_PERCENT: usize = 30;

/// Names out of a hundred that are in a lockspace for certain.
const KNOWN_PERCENT: usize = 92;

impl Rivals {
    pub(super) fn act(&mut self, action: Action, number: u64) {
        let dice = &mut Random::new(number);
        match action {
            Action::Start => self.start(dice),
            Action::Reuse => self.reuse(dice),
            Action::Connect => self.connect(dice),
            Action::Leave => self.leave(dice),
            Action::Lend => self.lend(dice),
            Action::Orphan => self.orphan(dice),
            Action::Halt => self.halt(dice),
            Action::GoOn => self.go_on(dice),
            Action::Die => self.die(dice),
            Action::Register => self.register(dice),
            Action::HangUp => self.hang_up(dice),
            Action::Acquire => self.acquire(dice),
            Action::Release => self.release(dice),
            Action::Create => self.create(dice),
            Action::Delete => self.delete(dice),
            Action::Space => self.make_space(dice),
            Action::Replace => Tally::note(&format!("an image is {}", self.names.replace(dice))),
            Action::Lock => self.lock(dice),
            Action::Unlock => self.unlock(dice),
            other => panic!("{} is nothing that rivals do", other.name()),
        }
    }

    fn acquire(&mut self, dice: &mut Random) {
        let name = self.any_name(dice);
        let is_automatic = self.names.is_automatic(&name);
        let terms = Terms {
            shared: dice.chance(45),
            automatic: dice.chance(if is_automatic { 85 } else { 6 }),
        };
        if terms.automatic && name.dangles() {
            return;
        }
        let flags = if terms.shared { ACQUIRE_SHARED } else { 0 };
        let flags = flags | if terms.automatic { ACQUIRE_AUTOCREATE } else { 0 };
        let answer = self.call(dice, None, |client| client.acquire(&name.space, &name.name, flags));
        let Some((owner, answer)) = answer else { return };
        let made = if terms.automatic { self.names.look_at(&name) } else { None };
        let owed = self.model.acquire(&name, terms, owner, made);
        assert_eq!(answer, owed, "{name:?} for {owner:?}, {terms:?}");
        println!("{answer:?}: acquire {name:?} for {owner:?}, {terms:?}");
        note("acquire", answer);
    }

    fn release(&mut self, dice: &mut Random) {
        let held = self.model.held();
        let is_held = dice.chance(85) && !held.is_empty();
        let (name, owner) = if is_held {
            let (name, owners) = &held[dice.below(held.len())];
            (name.clone(), dice.chance(90).then(|| dice.of(owners)))
        } else {
            (self.any_name(dice), None)
        };
        let whose = owner.map(|owner| self.owner_with(owner.pid));
        let answer = self.call(dice, whose, |client| client.release(&name.space, &name.name, 0));
        let Some((owner, answer)) = answer else { return };
        let owed = self.model.release(&name, owner);
        assert_eq!(answer, owed, "{name:?} of {owner:?}");
        println!("{answer:?}: release {name:?} of {owner:?}");
        note("release", answer);
    }

    fn create(&mut self, dice: &mut Random) {
        let name = self.any_name(dice);
        if name.dangles() {
            return;
        }
        let answer = self.call(dice, None, |client| client.create(&name.space, &name.name, 0));
        let Some((owner, answer)) = answer else { return };
        let owed = self.model.create(&name);
        assert_eq!(answer, owed, "{name:?} for {owner:?}");
        println!("{answer:?}: create {name:?} for {owner:?}");
        note("create", answer);
    }

    fn delete(&mut self, dice: &mut Random) {
        let name = self.any_name(dice);
        let answer = self.call(dice, None, |client| client.delete(&name.space, &name.name, 0));
        let Some((owner, answer)) = answer else { return };
        let owed = self.model.delete(&name);
        assert_eq!(answer, owed, "{name:?} for {owner:?}");
        println!("{answer:?}: delete {name:?} for {owner:?}");
        note("delete", answer);
    }

    fn make_space(&mut self, dice: &mut Random) {
        let space = self.names.spaces[dice.below(self.names.spaces.len())].clone();
        self.add_space(&space);
    }

    pub(super) fn add_space(&mut self, space: &str) {
        let mut client = LockClient::connect(&self.socket).expect("connecting");
        client.create_lockspace(space).expect("a lockspace can be made");
        self.model.spaces.insert(space.to_owned());
    }

    /// Somebody who is no client locks a file.
    fn lock(&mut self, dice: &mut Random) {
        let files: Vec<_> = self.model.seen.values().flatten().copied().collect();
        if files.is_empty() {
            return;
        }
        let file = dice.of(&files);
        if self.strangers.contains_key(&file) {
            return;
        }
        let kind = dice.of(&[Kind::Posix, Kind::Ofd]);
        let mode = dice.of(&[Mode::Shared, Mode::Exclusive]);
        let has_lock = self.stranger.lock(&self.names.files[&file], kind, mode);
        let owed = self.model.kernel.try_lock(file, &Holder::Stranger, mode);
        assert_eq!(has_lock, owed, "a stranger locks {file:?}, {kind:?} {mode:?}");
        println!("{has_lock}: a stranger locks {file:?}, {kind:?} {mode:?}");
        if has_lock {
            self.strangers.insert(file, (kind, mode));
        }
        Tally::note(if has_lock { "a stranger has a lock" } else { "a stranger is refused" });
    }

    fn unlock(&mut self, dice: &mut Random) {
        if !self.strangers.is_empty() {
            let files: Vec<_> = self.strangers.keys().copied().collect();
            self.unlock_file(dice.of(&files));
        }
    }

    pub(super) fn unlock_file(&mut self, file: super::File) {
        self.strangers.remove(&file);
        self.stranger.unlock(&self.names.files[&file]);
        self.model.kernel.unlock(file, &Holder::Stranger);
        self.model.settle_lacking();
    }

    /// As a rule in a lockspace that there is.
    fn any_name(&self, dice: &mut Random) -> Name {
        let is_known = dice.chance(KNOWN_PERCENT);
        let names = self.names.all.iter();
        let names: Vec<_> =
            names.filter(|name| !is_known || self.model.spaces.contains(&name.space)).collect();
        names[dice.below(names.len())].clone()
    }

    /// Has a manager call for an owner, for any if it does not matter.
    fn call(
        &mut self,
        dice: &mut Random,
        whose: Option<Owner>,
        call: impl FnOnce(&mut LockClient) -> Result<(), RpcError>,
    ) -> Option<(Owner, Answer)> {
        if whose.is_none() && !self.sessions.is_empty() && dice.chance(SESSION_PERCENT) {
            let index = dice.below(self.sessions.len());
            let owner = self.now(self.sessions[index].owner);
            return Some((owner, answer_of(call(&mut self.sessions[index].client))));
        }
        let owner = whose.or_else(|| self.any_owner(dice))?;
        Some((owner, answer_of(call(&mut self.manager(owner)))))
    }
}

fn answer_of(result: Result<(), RpcError>) -> Answer {
    /// libvirt's code for an error of the system.
    const SYSTEM: i32 = 38;
    match result {
        Ok(()) => Answer::Done,
        Err(error) if error.code == SYSTEM => Answer::Failed(error.int1),
        Err(error) => Answer::Refused(error.code),
    }
}

fn note(call: &str, answer: Answer) {
    Tally::note(&match answer {
        Answer::Done => format!("{call}: done"),
        Answer::Refused(code) => format!("{call}: refused by {code}"),
        Answer::Failed(libc::ENOENT) => format!("{call}: no such file"),
        Answer::Failed(errno) => format!("{call}: errno {errno}"),
    });
}
