//! Our own read-only program on the admin socket, by which `virtlogctl` and `virtlockctl` look into
//! a running daemon. It is described in `common/QUERY.md`.
//!
//! No I/O: [`dispatch()`] decodes a call and passes it to a [`Target`], which the server layer
//! implements with what the daemon tells. Nothing here changes anything.

mod counters;
mod items;
mod page;
mod place;

pub use counters::{
    Counters, Durations, LeaseCounters, LogCounters, ServerCounters, StorageCounters,
    UpgradeCounters,
};
pub use items::{Bytes, FdStore, Lease, Log, LogState, Proof, Reach, Status, unix_s};
pub use page::{PAGE_BYTES_MAX, Page};
pub use place::Place;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::rpc::error::{Code, Domain, Error};
use crate::rpc::{self, Call, Reply};
use crate::xdr::{Reader, Writer};

/// Program on an admin socket, beside libvirt's.
///
/// The number is "quer" in ASCII, as keepalive's is "keep". libvirt's daemons know no such program,
/// and answer "Cannot find program".
pub const PROGRAM: rpc::Program =
    rpc::Program { number: 0x7175_6572, version: 1, last_procedure: procedure::COUNTERS };

/// Bytes of the arguments of a call.
const ARGUMENTS_BYTES_MAX: u32 = 65_536;

/// Procedure numbers.
pub mod procedure {
    /// Facts about the daemon.
    pub const STATUS: i32 = 1;
    /// A page of its logs or leases.
    pub const LIST: i32 = 2;
    /// Counts of what it has done.
    pub const COUNTERS: i32 = 3;
}

/// Arguments of [`procedure::LIST`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListArguments {
    /// Place of the last item that is known; the first page without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Bytes of all items of the page, as far as there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

/// The daemon that is looked into.
pub trait Target {
    /// Returns facts about the daemon.
    fn status(&self) -> Status;

    /// Returns counts of what the daemon has done, at a cost that does not grow with the number of
    /// guests.
    fn counters(&self) -> Counters;

    /// Puts the items behind `after` on a page, in the order of their places, until it is full. The
    /// cost is that of the page, however many items there are.
    fn list(&self, after: Place, page: &mut Page);
}

/// Handles a call of [`PROGRAM`].
///
/// # Errors
/// Arguments that are not understood, and a procedure that there is not.
pub fn dispatch(call: &Call, target: &dyn Target) -> Result<Reply, Error> {
    let arguments = Reader::new(&call.arguments).opaque(ARGUMENTS_BYTES_MAX)?;
    let mut writer = Writer::new();
    match call.procedure {
        procedure::STATUS => {
            let _: IgnoredAny = decode(arguments)?;
            writer.opaque(&encode(&target.status())?);
        }
        procedure::COUNTERS => {
            let _: IgnoredAny = decode(arguments)?;
            writer.opaque(&encode(&target.counters())?);
        }
        procedure::LIST => {
            let arguments: ListArguments = decode(arguments)?;
            let after = arguments.after.as_deref().unwrap_or_default();
            let after = Place::parse(after)
                .ok_or_else(|| invalid(format!("'{after}' is no place in the list")))?;
            let mut page = Page::new(arguments.limit_bytes);
            target.list(after, &mut page);
            writer.opaque(&page.into_json());
        }
        _ => return Err(Error::undecodable()),
    }
    Ok(Reply { payload: writer.into_bytes(), fds: Vec::new() })
}

/// Decodes arguments. Unknown fields are ignored: later versions may add some.
fn decode<'a, T: Deserialize<'a>>(arguments: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(arguments)
        .map_err(|error| invalid(format!("the arguments are no JSON of this call: {error}")))
}

fn invalid(detail: String) -> Error {
    Error::new(Code::InvalidArg, Domain::Rpc, detail)
}

fn encode(answer: &impl Serialize) -> Result<Vec<u8>, Error> {
    let internal =
        |error: serde_json::Error| Error::new(Code::InternalError, Domain::Rpc, error.to_string());
    serde_json::to_vec(answer).map_err(internal)
}

#[cfg(test)]
mod tests;
