//! Which differences are meant: each rule is one row of a README's table of differences from libvirt's
//! daemons, and has its title.

mod common;
mod leases;
mod logs;
mod names;

use super::comparison::{Difference, Place};
use super::message::{Message, Twist};
use super::observation::{Body, Item, Observation};
use super::operation::{Change, Operation, Scene};
use super::pair::Configuration;
use crate::harness::Program;

/// A row of the table, and when it is what makes a difference.
#[derive(Debug)]
pub(super) struct Rule {
    /// The row's first cell.
    pub(super) title: &'static str,
    /// Whether the daemons go different ways from there on, so that no more can be compared.
    pub(super) parts: bool,
    explains: fn(&Case<'_>) -> bool,
}

/// A difference and how it came about.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) scene: &'a Scene,
    pub(super) configuration: &'a Configuration,
    /// All operations until now, the last of which made the difference.
    pub(super) operations: &'a [Operation],
    pub(super) difference: &'a Difference,
    pub(super) theirs: &'a Observation,
    pub(super) ours: &'a Observation,
}

/// The rule that explains a difference.
pub(super) fn explaining(case: &Case<'_>) -> Option<&'static Rule> {
    let own = match case.scene.program {
        Program::Virtlogd => logs::RULES,
        Program::Virtlockd => leases::RULES,
    };
    common::RULES.iter().chain(own).find(|rule| (rule.explains)(case))
}

/// All rules' titles.
pub fn titles() -> Vec<&'static str> {
    let all = [common::RULES, logs::RULES, leases::RULES];
    all.into_iter().flatten().map(|rule| rule.title).collect()
}

impl<'a> Case<'a> {
    /// Returns the last operation.
    fn operation(&self) -> Option<&'a Operation> {
        self.operations.last()
    }

    /// The message that was sent last, with the last operation, which may have sent the rest of it.
    fn message(&self) -> Option<&'a Message> {
        let client = self.client()?;
        self.operations.iter().rev().find_map(|operation| match operation {
            Operation::Send { client: sender, message, .. } if *sender == client => Some(message),
            _ => None,
        })
    }

    /// Whether the last answer is to a call of this procedure, or, without one, the last message is such
    /// a call.
    fn is_call(&self, program: u32, procedure: i32) -> bool {
        let header = match self.answer_items().1 {
            Some(Item::Message { header, .. }) => Some(*header),
            _ => self.message().map(Message::header),
        };
        header.is_some_and(|header| (header.prog, header.procedure) == (program, procedure))
    }

    /// Returns the client that the last operation has sent from.
    fn client(&self) -> Option<usize> {
        match self.operation()? {
            Operation::Send { client, .. } | Operation::Rest { client } => Some(*client),
            _ => None,
        }
    }

    /// Messages that the client of the difference has sent.
    fn messages_of_client(&self) -> impl Iterator<Item = &'a Message> {
        let of_client = match self.difference.place {
            Place::Item { client, .. } => Some(client),
            _ => None,
        };
        self.operations.iter().filter_map(move |operation| match operation {
            Operation::Send { client, message, .. }
                if of_client.is_none_or(|wanted| wanted == *client) =>
            {
                Some(message)
            }
            _ => None,
        })
    }

    /// The items that are different.
    fn items(&self) -> (Option<&'a Item>, Option<&'a Item>) {
        let Place::Item { client, number } = self.difference.place else { return (None, None) };
        let of = |side: &'a Observation| side.items.get(&client)?.get(number);
        (of(self.theirs), of(self.ours))
    }

    /// The bodies of the messages that are different.
    fn bodies(&self) -> (Option<&'a Body>, Option<&'a Body>) {
        let (theirs, ours) = self.items();
        (theirs.and_then(Item::body), ours.and_then(Item::body))
    }

    /// Returns the first items that are different of those that the client of the last operation has
    /// received, or the last ones.
    fn answer_items(&self) -> (Option<&'a Item>, Option<&'a Item>) {
        let Some(client) = self.client() else { return (None, None) };
        let of = |side: &'a Observation| side.items.get(&client).map_or(&[][..], Vec::as_slice);
        let (theirs, ours) = (of(self.theirs), of(self.ours));
        let numbers = 0..theirs.len().max(ours.len());
        let different = numbers.clone().find(|&number| theirs.get(number) != ours.get(number));
        match different.or(numbers.last()) {
            Some(number) => (theirs.get(number), ours.get(number)),
            None => (None, None),
        }
    }

    /// Returns the answer to the last message.
    fn answers(&self) -> (Option<&'a Body>, Option<&'a Body>) {
        let (theirs, ours) = self.answer_items();
        (theirs.and_then(Item::body), ours.and_then(Item::body))
    }

    /// Returns the changes that others have made to files.
    fn changes(&self) -> impl Iterator<Item = (&'a str, &'a Change)> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Outside { file, change } => Some((&**file, change)),
            _ => None,
        })
    }
}

/// Whether a message comes with fds that it does not need, or not enough of them.
fn has_fds(message: &Message) -> bool {
    matches!(&message.twist, Twist::Fds(count, fds) if *count > 0 || !fds.is_empty())
}
