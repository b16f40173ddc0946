//! Recovered items: a record of the journal joined with its fds.

use super::line;
use super::numbers::Numbers;
use super::staged::Staged;
use crate::fd_store::names::Kind;
use crate::fd_store::pending_reply::PendingReply;
use crate::fd_store::slots::{AtRisk, SlotFile};
use crate::handover::document::{Change, Client, Lockspace, Log, PrivateClient, Socket};

/// Fds of a staging pipe.
const PIPE_ENDS: usize = 2;

/// Describes the item of a record whose fd is missing.
pub(super) fn is_missing(change: &Change, key: u64, numbers: &Numbers) -> Option<String> {
    if let Some(log) = change.log.as_ref().filter(|_| numbers.one(Kind::Log, key).is_none()) {
        let [path, name] = [&log.path, &log.domname].map(|text| text.as_deref().unwrap_or("?"));
        return Some(format!("the log {path} of {name}"));
    }
    let lease = change.lease.as_ref().filter(|_| numbers.one(Kind::Lease, key).is_none())?;
    let mut words = None;
    lease.resources.iter().for_each(|resources| {
        resources.for_each(|resource| {
            let path = resource.path.as_deref().unwrap_or("?");
            let holders =
                resource.private.iter().flat_map(|private| private.holders.iter().flatten());
            let names: Vec<_> = holders.filter_map(|holder| holder.name.as_deref()).collect();
            words = Some(format!("the lease on {path} of {}", names.join(", ")));
        });
    });
    words
}

/// Completes a log's record; `None` if its pipe is missing, as it was removed or never stored.
pub(super) fn found_log(mut log: Log, key: u64, numbers: &Numbers, staged: &Staged) -> Option<Log> {
    log.pipefd = Some(numbers.one(Kind::Log, key)?);
    let pipes = staged.pipes.get(&key).map(Vec::as_slice).unwrap_or_default();
    let private = log.private.get_or_insert_default();
    private.key = Some(key);
    private.file = None;
    private.rotation_steps_left = None;
    private.staged_keys = Some(pipes.iter().map(|pipe| pipe.key).collect());
    private.staged = Some(pipes.iter().map(|pipe| pipe.ends).collect());
    private.after_crash = Some(true);
    // Bytes at risk were recorded after the line.
    if let Some(line) = staged.line(key, numbers) {
        line::resume(private, &line);
    }
    let is_lost = |&(key, _): &(u64, u64)| numbers.of(Kind::Pipe, key).len() < PIPE_ENDS;
    let mut lost: Vec<_> = private.staged_bytes.take().into_iter().flatten().collect();
    for (pipe_key, AtRisk { bytes, target, .. }) in staged.at_risk.get(&key).into_iter().flatten() {
        match target {
            Some(target) if is_lost(&(*pipe_key, *bytes)) && private.in_writing.is_none() => {
                private.in_writing = Some((*bytes, *target));
            }
            _ => lost.push((*pipe_key, *bytes)),
        }
    }
    let lost = lost.into_iter().filter(is_lost).map(|(_, bytes)| bytes);
    line::add_loss(private, lost.fold(0, u64::saturating_add));
    Some(log)
}

/// Completes a client's record; `None`, which closes the connection, also if its pending reply is
/// unknown.
pub(super) fn found_client(
    mut client: Client,
    key: u64,
    numbers: &Numbers,
    calls: Option<&SlotFile>,
) -> Option<Client> {
    let fd = Some(numbers.one(Kind::Client, key)?);
    let slot = calls.and_then(|calls| calls.get(key).ok()).unwrap_or_default();
    let pending = match PendingReply::from_slot(slot) {
        PendingReply::Nothing => None,
        PendingReply::Answer(reply_to) => Some(reply_to.to_words()),
        PendingReply::Unknown => return None,
    };
    client.sock = Some(Socket { fd, ..Socket::default() });
    client.private =
        Some(PrivateClient { key: Some(key), pending_reply: pending, ..Default::default() });
    Some(client)
}

pub(super) fn found_lease(
    mut lease: Lockspace<'static>,
    key: u64,
    numbers: &Numbers,
) -> Option<Lockspace<'static>> {
    let fd = Some(numbers.one(Kind::Lease, key)?);
    if let Some(resources) = &mut lease.resources {
        resources.change(move |resource| {
            resource.fd = fd;
            resource.private.get_or_insert_default().key = Some(key);
        });
    }
    Some(lease)
}

#[cfg(test)]
mod tests;
