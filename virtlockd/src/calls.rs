//! Calls of the lock program, in libvirt's order of checks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::handover::document::Change;
use common::server::{Caller, Progress};

use crate::connections::{ensure_watched, register, restricted};
use crate::error::file::FileError;
use crate::error::lock::LockError;
use crate::ids::JobSubject;
use crate::lease::directory;
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::queue::Task;
use crate::lockspace::resource::path_of;
use crate::outcome::{Completion, Core, Outcome};
use crate::owner::registration::Registration;
use crate::protocol::{Operation, Request};
use crate::state::State;

/// State of a call that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallState {
    Finished,
    InFlight,
}

/// Starts a call.
pub(crate) fn start(
    state: &mut State,
    core: &mut Core,
    from: Caller,
    request: Request,
) -> Result<CallState, LockError> {
    let session = state.sessions.get_or_insert(from);
    session.check(&request)?;
    match request {
        Request::Restrict { .. } => {
            session.is_restricted = true;
            restricted(state, core, from);
        }
        Request::Register { guest, .. } => register(state, core, from, guest),
        Request::New { space, .. } => return add_lockspace(state, core, from, space, true),
        Request::CreateLockspace { space } => {
            return add_lockspace(state, core, from, space, false);
        }
        Request::Resource { operation, space, name, .. } => {
            return start_operation(state, core, from, operation, &space, &name);
        }
    }
    Ok(CallState::Finished)
}

fn start_operation(
    state: &mut State,
    core: &mut Core,
    from: Caller,
    operation: Operation,
    space: &[u8],
    name: &[u8],
) -> Result<CallState, LockError> {
    let session = state.sessions.get_or_insert(from);
    let mut registration = session.registration.clone().ok_or(LockError::Unregistered)?;
    if matches!(operation, Operation::Acquire(_)) && state.lockspaces.has_space(space) {
        let too_many = || LockError::File(FileError::too_many(&path_of(space, name)));
        registration = ensure_watched(state, core, from, registration).ok_or_else(too_many)?;
    }
    let resource = state.lockspaces.resource(space, name)?;
    if matches!(operation, Operation::Release) {
        let Registration { owner, guest } = &registration;
        registration.owner = state.owners.holder_for(*owner, guest, resource);
    }
    state.sessions.set_call_in_flight(from.client);
    let action = Action::new(operation, registration);
    perform(state, core, resource, Task::for_client(action, from.client));
    Ok(CallState::InFlight)
}

fn add_lockspace(
    state: &mut State,
    core: &mut Core,
    from: Caller,
    space: Box<[u8]>,
    is_new: bool,
) -> Result<CallState, LockError> {
    if is_new && space.is_empty() {
        return Err(LockError::DefaultLockspace);
    }
    if state.lockspaces.has_space(&space) {
        return if is_new {
            Err(LockError::LockspaceExists(space))
        } else {
            Ok(CallState::Finished)
        };
    }
    state.sessions.set_call_in_flight(from.client);
    let path = Path::new(OsStr::from_bytes(&space)).to_owned();
    let subject = JobSubject::NoResource.number();
    core.submit_at_path(&path, subject, Progress::default(), move || {
        let result = directory::make(Path::new(OsStr::from_bytes(&space)));
        Outcome(Completion::Directory { client: from.client, space, is_new, result })
    });
    Ok(CallState::InFlight)
}

/// Adds a lockspace whose directory is there now.
pub(crate) fn directory_made(
    state: &mut State,
    core: &mut Core,
    space: Box<[u8]>,
    is_new: bool,
) -> Result<(), LockError> {
    if is_new && state.lockspaces.has_space(&space) {
        return Err(LockError::LockspaceExists(space));
    }
    state.lockspaces.add_space(&space)?;
    core.note(&Change::added_space(&space));
    Ok(())
}
