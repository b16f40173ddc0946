//! Which file a path leads to, as the files are in the beginning of a sequence.

use std::path::Path;

use super::Case;
use crate::sequences::comparison::Place;
use crate::sequences::message::Message;
use crate::sequences::operation::{Change, Operation, is_out_of_step};

/// Whether the difference is about this file, one of its older parts, or what is below them.
pub(super) fn is_about(case: &Case<'_>, file: &str) -> bool {
    let bases = match &case.difference.place {
        Place::File(name) | Place::Lock(name) => vec![log_of(name).to_owned()],
        Place::Item { client, .. } => {
            let paths = possible_messages(case, *client).into_iter().filter_map(path_in_message);
            paths.map(|path| base_of(case, path)).collect()
        }
        // These have no name.
        Place::Pipes | Place::Leases => return true,
        Place::Leftovers | Place::Guests | Place::Outcome => return false,
    };
    let file = log_of(file);
    let is_it = |name: &str| {
        let mut above = Path::new(name).ancestors().filter_map(Path::to_str);
        above.any(|name| log_of(name) == file)
    };
    bases.iter().any(|base| is_it(base) || links_to(case, base).any(is_it))
}

/// The messages that the last answer to this client may be to.
fn possible_messages<'a>(case: &Case<'a>, client: usize) -> Vec<&'a Message> {
    if is_out_of_step(case.operations, client) {
        case.messages_of_client().collect()
    } else {
        case.message().into_iter().collect()
    }
}

/// The files that links to this one were made of.
fn links_to<'a>(case: &Case<'a>, base: &'a str) -> impl Iterator<Item = &'a str> {
    case.changes().filter_map(move |(file, change)| match change {
        Change::Link(target) if beside(file, target) == base => Some(file),
        _ => None,
    })
}

/// The name of what a link leads to, which is relative to its own directory.
pub(super) fn beside(link: &str, target: &str) -> String {
    match link.rsplit_once('/') {
        Some((directory, _)) if !target.starts_with('/') => format!("{directory}/{target}"),
        _ => target.to_owned(),
    }
}

/// The file that a path leads to; a log's for an older part.
pub(super) fn base_of(case: &Case<'_>, path: &str) -> String {
    let directory = &case.scene.directory;
    let below = path.find(directory).map_or(path, |start| &path[start + directory.len()..]);
    let name = below.trim_start_matches(['.', '/']).trim_start_matches("d/../");
    let name = name.split("\\u{0}").next().unwrap_or_default();
    log_of(name).to_owned()
}

/// The path in a message that an operation sends.
pub(super) fn path_in(operation: &Operation) -> Option<&str> {
    match operation {
        Operation::Send { message, .. } => path_in_message(message),
        _ => None,
    }
}

/// The second word, if the first is a call with a path.
fn path_in_message(message: &Message) -> Option<&str> {
    const CALLS: &[&str] = &["OPEN", "GET_POSITION", "READ", "APPEND"];
    let (call, rest) = message.said.split_once(' ')?;
    CALLS.contains(&call).then(|| rest.split(' ').next().unwrap_or_default())
}

/// The log that a file is an older part of, or itself; behind the link, if it is that.
fn log_of(name: &str) -> &str {
    let is_number = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('.') {
        Some((log, end)) if is_number(end) => log_of(log),
        _ if name == "link" => "b",
        _ if name == "dangling" => "nowhere",
        _ => name,
    }
}
