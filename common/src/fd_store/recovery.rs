//! Recovery from the fd store: builds a document from the fds that the supervisor has returned.

mod items;
mod line;
mod numbers;
mod staged;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::OwnedFd;

use super::journal::{self, JournalContents};
use super::names::Kind;
use crate::handover::InheritedFds;
use crate::handover::document::{
    Daemon, Document, Items, Lockspace, LogHandler, PrivateDaemon, Server,
};
use crate::sys::shortage::wait_out;
use items::{found_client, found_lease, found_log, is_missing};
use numbers::Numbers;
pub use staged::Mark;
use staged::Staged;

/// Everything that was recovered.
#[derive(Debug, Default)]
pub struct Returned {
    /// The document; `None` without a readable journal.
    pub document: Option<Document<'static>>,
    /// The names, one for each fd.
    pub names: Vec<String>,
    /// Descriptions of items that the journal has and the store lacks.
    pub missing: Vec<String>,
}

/// Builds a document from the fds that the supervisor has returned, if any. The fds are then with
/// `inherited`, under the numbers that the document has.
#[must_use]
pub fn from_fd_store(
    stored: Vec<(String, OwnedFd)>,
    main_server: &str,
    inherited: &mut InheritedFds,
) -> Option<Returned> {
    if stored.is_empty() {
        return None;
    }
    let names: Vec<String> = stored.iter().map(|(name, _)| name.clone()).collect();
    let contents = newest_journal(&stored);
    let by_name = Numbers::new(stored, inherited);
    let mut missing = Vec::new();
    let document =
        contents.map(|contents| build_document(contents, main_server, &by_name, &mut missing));
    Some(Returned { document, names, missing })
}

/// Returns the names of everything that a document says is stored.
#[must_use]
pub fn keys_of(document: &Document<'_>, main_server: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |kind: Kind, key: Option<u64>| names.extend(key.map(|key| kind.name(key)));
    if let Some(logs) = document.handler.as_ref().and_then(|handler| handler.files.as_ref()) {
        logs.for_each(|log| {
            let private = log.private.as_ref();
            add(Kind::Log, private.and_then(|private| private.key));
            let staged = private.iter().flat_map(|private| private.staged_keys.iter().flatten());
            staged.for_each(|&key| add(Kind::Pipe, Some(key)));
        });
    }
    let spaces = document.lockspaces.iter().flatten().chain(&document.default_lockspace);
    for resources in spaces.filter_map(|space| space.resources.as_ref()) {
        resources.for_each(|resource| {
            add(Kind::Lease, resource.private.as_ref().and_then(|private| private.key));
        });
    }
    if let Some(Daemon::Named { servers }) = &document.daemon {
        let clients = servers.get(main_server).and_then(|server| server.clients.as_ref());
        for client in clients.into_iter().flatten() {
            add(Kind::Client, client.private.as_ref().and_then(|private| private.key));
        }
    }
    names
}

/// Returns the newest complete journal. Without it everything in the store is lost, so no shortage
/// is taken for an answer.
fn newest_journal(stored: &[(String, OwnedFd)]) -> Option<JournalContents> {
    let journal = |(name, fd): &(String, OwnedFd)| {
        Some((Kind::Journal.key(name)?, File::from(wait_out(|| fd.try_clone()).ok()?)))
    };
    let mut journals: Vec<_> = stored.iter().filter_map(journal).collect();
    journals.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    journals.iter().find_map(|(_, file)| wait_out(|| journal::read(file)).ok()?)
}

fn build_document(
    mut contents: JournalContents,
    main_server: &str,
    numbers: &Numbers,
    missing: &mut Vec<String>,
) -> Document<'static> {
    let owners =
        contents.document.default_lockspace.as_mut().and_then(|space| space.private.take());
    let owners = owners.unwrap_or_default().with_later(std::mem::take(&mut contents.endings));
    let next_client_id = next_client_id(&mut contents.document, main_server);
    let private = contents.document.private.take().unwrap_or_default();
    let staged = Staged::read(numbers, private.at_risk_round.unwrap_or(0));
    let calls = numbers.slot_files(Kind::PendingReplies).pop().map(|(_, _, calls)| calls);
    let (mut logs, mut leases, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for (key, change) in contents.changes {
        if let Some(words) = is_missing(&change, key, numbers) {
            missing.push(words);
        }
        logs.extend(change.log.and_then(|log| found_log(log, key, numbers, &staged)));
        leases.extend(change.lease.and_then(|lease| found_lease(lease, key, numbers)));
        let client = change.client;
        clients
            .extend(client.and_then(|client| found_client(client, key, numbers, calls.as_ref())));
    }
    clients.sort_by_key(|client| client.id);
    let main = Server { clients: Some(clients), next_client_id, ..Server::default() };
    leases.extend(spaces_of(&mut contents.document).chain(contents.spaces));
    Document {
        daemon: Some(Daemon::Named { servers: BTreeMap::from([(main_server.to_owned(), main)]) }),
        handler: Some(LogHandler { files: Some(Items::Read(logs)) }),
        default_lockspace: Some(Lockspace { private: Some(owners), ..Lockspace::default() }),
        lockspaces: Some(leases),
        private: Some(PrivateDaemon {
            essentials: Some(numbers.essentials()),
            configuration_hex: private.configuration_hex.clone(),
            toml_hex: private.toml_hex.clone(),
            ..private.settings()
        }),
        ..Document::default()
    }
}

/// Returns the number for the next client.
fn next_client_id(header: &mut Document<'_>, main_server: &str) -> Option<u64> {
    header.daemon.take()?.into_servers(main_server).0?.next_client_id
}

/// Returns the lockspaces of a journal's header, which has no items.
fn spaces_of<'a>(header: &mut Document<'a>) -> impl Iterator<Item = Lockspace<'a>> + use<'a> {
    let spaces = header.lockspaces.take().into_iter().flatten();
    let named = spaces.filter(|space| space.directory.is_some());
    named.map(|space| Lockspace { resources: None, ..space })
}
