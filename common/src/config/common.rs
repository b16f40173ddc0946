//! Configuration keys of both daemons.

use std::path::PathBuf;

use super::{Document, Error};

/// Client connections to the main socket, libvirt's default.
const CLIENTS_MAX_DEFAULT: u32 = 1024;

/// Client connections to the admin socket, libvirt's default. Its shipped file says 5.
const ADMIN_CLIENTS_MAX_DEFAULT: u32 = 5000;

/// All permission bits of a socket.
const PERMS_MAX: u32 = 0o777;

/// Settings of both daemons' files, with libvirt's defaults for missing keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// 1 debug to 4 error; 0 for unset. Checked when logging is set up.
    pub log_level: u32,
    /// Empty for unset.
    pub log_filters: String,
    /// Empty for unset.
    pub log_outputs: String,
    /// Connections to the main socket.
    pub max_clients: u32,
    /// Connections to the admin socket.
    pub admin_max_clients: u32,
    /// Sockets that the daemon makes itself.
    pub sockets: ServerSockets,
}

/// Settings of the daemon's own sockets. libvirt's files document these keys, its daemons ignore
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSockets {
    /// Directory of both sockets, if not the run directory.
    pub dir: Option<PathBuf>,
    /// Group of the main socket.
    pub group: Option<String>,
    /// Permission bits of the main socket.
    pub perms: Option<u32>,
    /// Permission bits of the admin socket.
    pub admin_perms: Option<u32>,
}

impl Common {
    /// Keys read here, for [`Document::unknown`]. There is no read-only socket:
    /// `unix_sock_ro_perms` is accepted without a warning.
    pub const KEYS: [&'static str; 10] = [
        "log_level",
        "log_filters",
        "log_outputs",
        "max_clients",
        "admin_max_clients",
        "unix_sock_dir",
        "unix_sock_group",
        "unix_sock_ro_perms",
        "unix_sock_rw_perms",
        "unix_sock_admin_perms",
    ];

    /// Reads the common keys of `document`.
    ///
    /// # Errors
    /// As the getters of [`Document`]; [`Error::Value`] for permissions that are no octal number.
    pub fn read(document: &Document) -> Result<Self, Error> {
        let text = |key| Ok(document.string(key)?.unwrap_or_default().into_owned());
        Ok(Self {
            log_level: document.u32("log_level")?.unwrap_or(0),
            log_filters: text("log_filters")?,
            log_outputs: text("log_outputs")?,
            max_clients: document.u32("max_clients")?.unwrap_or(CLIENTS_MAX_DEFAULT),
            admin_max_clients: document
                .u32("admin_max_clients")?
                .unwrap_or(ADMIN_CLIENTS_MAX_DEFAULT),
            sockets: ServerSockets::read(document)?,
        })
    }
}

impl ServerSockets {
    fn read(document: &Document) -> Result<Self, Error> {
        let set = |text: &std::ffi::OsStr| !text.is_empty();
        let group = document.string("unix_sock_group")?;
        Ok(Self {
            dir: document.os_string("unix_sock_dir")?.filter(|&dir| set(dir)).map(PathBuf::from),
            group: group.filter(|group| !group.is_empty()).map(std::borrow::Cow::into_owned),
            perms: perms(document, "unix_sock_rw_perms")?,
            admin_perms: perms(document, "unix_sock_admin_perms")?,
        })
    }
}

fn perms(document: &Document, key: &'static str) -> Result<Option<u32>, Error> {
    let Some(text) = document.string(key)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if mode <= PERMS_MAX => Ok(Some(mode)),
        Ok(_) | Err(_) => Err(Error::Value {
            path: document.path().to_owned(),
            line: document.entry(key).map_or(0, |entry| entry.line),
            key,
            value: text.into_owned(),
            what: "expected octal permission bits such as \"0770\"",
        }),
    }
}

#[cfg(test)]
mod tests;
