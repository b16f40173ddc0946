//! The daemon's sockets: passed by systemd, or its own.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use thiserror::Error;

use crate::cli::{Paths, SOCKET_MODE};
use crate::config::{Common, ServerSockets};
use crate::server::Listener;
use crate::sys::errno::io_text;
use crate::systemd::{self, PassedSocket};

/// Listeners of both servers.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) main: Vec<Listener>,
    pub(super) admin: Vec<Listener>,
}

impl Sockets {
    pub(super) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.admin.is_empty()
    }
}

/// Reason why there are no listeners.
#[derive(Debug, Error)]
pub(super) enum Error {
    #[error(transparent)]
    Passed(#[from] systemd::ActivationError),
    /// libvirt's text, with the names.
    #[error("Some activation file descriptors are unclaimed: {0}")]
    Unclaimed(String),
    #[error("Unable to listen on socket {}: {}", path.display(), io_text(error))]
    Listen { path: PathBuf, error: io::Error },
    #[error("unix_sock_group: there is no group '{0}'")]
    NoGroup(String),
    #[error("unix_sock_group: unable to look up group '{group}': {error}")]
    Group { group: String, error: nix::Error },
}

/// Takes the passed sockets; without any, makes sockets as configured. If only one server's socket
/// was passed, the other server has none, as in libvirt.
pub(super) fn open(
    name: &str,
    passed: Vec<PassedSocket>,
    paths: &Paths,
    common: &Common,
    admin_server: bool,
) -> Result<Sockets, Error> {
    let mut sockets = if passed.is_empty() {
        make(paths, &common.sockets, admin_server)?
    } else {
        if common.sockets != ServerSockets::default() {
            tracing::warn!(
                target: "rpc.netserver",
                "The sockets come from systemd: unix_sock_* settings have no effect, set \
                 ListenStream=, SocketGroup= and SocketMode= in the .socket units instead"
            );
        }
        claim(name, passed, paths)?
    };
    if !admin_server {
        sockets.admin.clear();
    }
    Ok(sockets)
}

fn make(paths: &Paths, settings: &ServerSockets, admin_server: bool) -> Result<Sockets, Error> {
    let group = settings.group.as_deref().map(group_id).transpose()?;
    let paths = match &settings.dir {
        Some(dir) => &paths.clone().with_socket_dir(dir),
        None => paths,
    };
    let listen = |path: &Path, mode: Option<u32>, group| {
        Listener::bind(path, mode.unwrap_or(SOCKET_MODE), group)
            .map_err(|error| Error::Listen { path: path.to_owned(), error })
    };
    // The main socket last: a client that finds it finds the other one too.
    let admin = match admin_server {
        true => vec![listen(&paths.admin_socket, settings.admin_perms, None)?],
        false => Vec::new(),
    };
    let main = vec![listen(&paths.socket, settings.perms, group)?];
    Ok(Sockets { main, admin })
}

/// Assigns sockets by name, or by path where systemd gave no names (before version 227).
fn claim(name: &str, passed: Vec<PassedSocket>, paths: &Paths) -> Result<Sockets, Error> {
    let (main_name, admin_name) = (format!("{name}.socket"), format!("{name}-admin.socket"));
    let mut sockets = Sockets::default();
    for PassedSocket { name, listener } in passed {
        let listener = Listener::passed(listener);
        let is = |wanted: &str, path: &Path| match &name {
            Some(name) => name == wanted,
            None => listener.path().is_some_and(|bound| bound.file_name() == path.file_name()),
        };
        if is(&main_name, &paths.socket) {
            sockets.main.push(listener);
        } else if is(&admin_name, &paths.admin_socket) {
            sockets.admin.push(listener);
        } else {
            let path = listener.path().unwrap_or_default();
            return Err(Error::Unclaimed(format!(
                "name '{}', path '{}'",
                name.unwrap_or_default(),
                path.display()
            )));
        }
    }
    Ok(sockets)
}

/// Returns the id of a group given by number or name.
fn group_id(group: &str) -> Result<u32, Error> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(Error::NoGroup(group.into())),
        Err(error) => Err(Error::Group { group: group.into(), error }),
    }
}
