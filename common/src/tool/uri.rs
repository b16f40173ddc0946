//! Connection URIs, as virt-admin has them: `virtlogd:///system`, `virtlogd:///session`,
//! `virtlogd:///system?socket=/run/other`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::cli::Paths;
use crate::sys::process;

/// Environment variable with a URI, virt-admin's. One of another daemon is not for us.
const DEFAULT_URI: &str = "LIBVIRT_ADMIN_DEFAULT_URI";

/// A daemon's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Path of its admin socket.
    pub(super) socket: PathBuf,
    /// Its URI.
    pub(super) uri: String,
}

/// Returns the place of the daemon `name`: that of `uri`, of the environment, or the one of this user.
pub(super) fn place(
    name: &str,
    uri: Option<&str>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Place, String> {
    let ours = |uri: &String| uri.split(':').next().is_some_and(|scheme| scheme_of(scheme) == name);
    let of_environment = || variable(DEFAULT_URI)?.into_string().ok().filter(ours);
    let mode = if process::is_privileged() { "system" } else { "session" };
    let uri = uri.map(str::to_owned).or_else(of_environment);
    let uri = uri.unwrap_or_else(|| format!("{name}:///{mode}"));
    let (is_system, socket) = parse(name, &uri).ok_or_else(|| {
        format!("'{uri}' is no URI of {name}: {name}:///system, {name}:///session, either with ?socket=PATH")
    })?;
    let socket = match socket {
        Some(socket) => socket,
        None => {
            Paths::new(name, is_system, variable).map_err(|error| error.to_string())?.admin_socket
        }
    };
    Ok(Place { socket, uri })
}

/// Returns whether the URI is root's daemon, and the socket that it names.
fn parse(name: &str, uri: &str) -> Option<(bool, Option<PathBuf>)> {
    let (scheme, rest) = uri.split_once("://")?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_system = match path.trim_end_matches('/') {
        "/system" => true,
        "/session" => false,
        "" => process::is_privileged(),
        _ => return None,
    };
    if scheme_of(scheme) != name {
        return None;
    }
    let mut socket = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let ("socket", path) = parameter.split_once('=')? else { return None };
        socket = Some(PathBuf::from(OsString::from_vec(decoded(path)?)));
    }
    Some((is_system, socket))
}

/// Returns a scheme without its transport, which can only be a Unix socket.
fn scheme_of(scheme: &str) -> &str {
    scheme.strip_suffix("+unix").unwrap_or(scheme)
}

/// Decodes `%2F` and the like.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        decoded.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(uri: Option<&str>, environment: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| {
            let found = environment.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        };
        place("virtlogd", uri, variable).map(|place| place.socket.display().to_string())
    }

    #[test]
    fn uris_lead_to_sockets_as_virt_admins_do() {
        let home = [("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/7")];
        for (uri, path) in [
            ("virtlogd:///system", "/run/libvirt/virtlogd-admin-sock"),
            ("virtlogd+unix:///system", "/run/libvirt/virtlogd-admin-sock"),
            ("virtlogd:///session", "/run/user/7/libvirt/virtlogd-admin-sock"),
            ("virtlogd:///system?socket=/a/b", "/a/b"),
            ("virtlogd:///session?socket=%2Fa%20b", "/a b"),
        ] {
            assert_eq!(socket(Some(uri), &home).as_deref(), Ok(path), "{uri}");
        }
    }

    #[test]
    fn other_uris_are_refused() {
        for uri in [
            "virtlockd:///system",
            "virtlogd",
            "virtlogd://host/system",
            "virtlogd:///other",
            "virtlogd:///system?sock=/a",
            "virtlogd:///system?socket=%2",
        ] {
            assert!(socket(Some(uri), &[]).unwrap_err().contains("is no URI of virtlogd"), "{uri}");
        }
    }

    #[test]
    fn the_environment_counts_if_it_is_for_this_daemon() {
        let system = [("LIBVIRT_ADMIN_DEFAULT_URI", "virtlogd:///system?socket=/a")];
        assert_eq!(socket(None, &system).as_deref(), Ok("/a"));
        assert_eq!(socket(Some("virtlogd:///system?socket=/b"), &system).as_deref(), Ok("/b"));
        let other = [
            ("LIBVIRT_ADMIN_DEFAULT_URI", "libvirtd:///system?socket=/a"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
            ("HOME", "/home/7"),
        ];
        assert!(socket(None, &other).unwrap().ends_with("/libvirt/virtlogd-admin-sock"));
    }
}
