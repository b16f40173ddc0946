//! `sd_notify`: telling the supervisor how we are.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where messages go; nowhere when there is no supervisor.
#[derive(Debug)]
pub struct Notify {
    target: Option<OsString>,
}

impl Notify {
    /// `target` is the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    #[must_use]
    pub fn new(target: Option<OsString>) -> Self {
        Self { target: target.filter(|target| !target.is_empty()) }
    }

    /// Says that the service serves. libvirt's text, without a newline.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A supervisor that cannot be reached is noted and does no harm.
    fn send(&self, message: &str) {
        if let Some(target) = &self.target
            && let Err(error) = send_to(target, message)
        {
            tracing::warn!(
                target: "util.systemd",
                "Unable to notify {}: {error}", target.display()
            );
        }
    }
}

fn send_to(target: &OsString, message: &str) -> io::Result<()> {
    let address = match target.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(target)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        bytes[..count].to_vec()
    }

    #[test]
    fn readiness_arrives_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notify::new(Some(path.into())).ready();
        assert_eq!(received(&socket), b"READY=1");

        let name = format!("notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Notify::new(Some(format!("@{name}").into())).ready();
        assert_eq!(received(&socket), b"READY=1");
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        Notify::new(None).ready();
        Notify::new(Some("/nonexistent/notify".into())).ready();
    }
}
