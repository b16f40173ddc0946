//! The moment between two images of a process, held still: the state document can be replaced.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::harness::{Daemon, Subject, Whose, eventually};

/// Stands between the images: waits for a document, puts it in place, and becomes what lies where
/// it lay itself. All descriptors and the process stay.
const BETWEEN: &str = r#"#!/bin/sh
directory=${0%/*}
: >"$directory/waiting"
while ! [ -e "$directory/document" ]; do sleep 0.005; done
mv "$directory/document" "$(cat "$directory/place")"
exec "$0" "$@"
"#;

/// A process that was libvirt's daemon and is nobody yet.
pub(super) struct EditedState {
    /// What that daemon has left.
    pub(super) document: Value,
    directory: PathBuf,
}

impl EditedState {
    /// Asks libvirt's daemon, which must be quiet, for an upgrade, and stops in the middle of it.
    pub(super) fn take(daemon: &Daemon) -> Self {
        let (host, program) = (daemon.host(), daemon.subject().program);
        let directory = host.executable(program).parent().unwrap().to_path_buf();
        let file = format!("run/{}-restart-exec.json", program.name());
        let script = directory.join("script");
        fs::write(&script, BETWEEN).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.join("place"), format!("/{file}")).unwrap();
        host.put_file(program, &script);
        daemon.forget_notifications();
        daemon.signal(Signal::SIGUSR1);
        eventually("libvirt's daemon gives way", || directory.join("waiting").exists());
        let document = serde_json::from_slice(&fs::read(host.path(&file)).unwrap()).unwrap();
        Self { document, directory }
    }

    /// Has the process become the daemon of `whose`, which finds `document`.
    pub(super) fn give(self, daemon: &Daemon, document: &Value, whose: Whose) {
        daemon.host().put(Subject { whose, ..daemon.subject() });
        let text = serde_json::to_vec_pretty(document).unwrap();
        let unfinished = self.directory.join("unfinished");
        fs::write(&unfinished, text).unwrap();
        fs::rename(unfinished, self.directory.join("document")).unwrap();
    }
}
