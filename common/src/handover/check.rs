//! Asking the target, in a child process, whether it could take over.
//!
//! A daemon of ours reads the document and its configuration and says what it finds. libvirt's do
//! not know the question; one of those has to show by its version that it is one, so that a
//! program that would end at once never gets our place.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::fds;
use super::target::Target;
use crate::sys::process::pidfd_open;

/// The hidden option that asks; the document is on stdin then.
pub const OPTION: &str = "check-handover";

/// How the answer begins.
const GREETING: &str = "virt-rs hand-over: ";

/// The answer of a daemon that could take over.
const OK: &str = "ok";

/// What the version of one of libvirt's daemons contains.
const LIBVIRTS: &str = "(libvirt)";

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 4096;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    CouldYou,
    WhoAreYou,
}

/// A question that waits for its answer. The child is ended when this is dropped.
#[derive(Debug)]
pub struct Check {
    question: Question,
    child: Child,
}

/// What is known of the target.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is ours and could take over.
    Ours,
    /// It is libvirt's.
    Libvirts,
    /// It is not ours: ask who it is.
    Unknown,
    /// It could not take over, for this reason.
    No(String),
}

impl Check {
    /// Asks whether the target could take over with this document. The pidfd is ready when there
    /// is an answer.
    ///
    /// # Errors
    /// As `fork(2)` and `execve(2)`.
    pub fn could_you(target: &Target, document: &[u8]) -> io::Result<(Self, OwnedFd)> {
        let stdin = File::from(fds::sealed(document)?);
        io::Seek::rewind(&mut &stdin)?;
        let arguments = target.arguments.get(1..).unwrap_or_default();
        let mut command = command(target);
        command.arg(format!("--{OPTION}")).args(arguments).stdin(stdin);
        Self::ask(Question::CouldYou, command)
    }

    /// Asks the target who it is.
    ///
    /// # Errors
    /// As `fork(2)` and `execve(2)`.
    pub fn who_are_you(target: &Target) -> io::Result<(Self, OwnedFd)> {
        let mut command = command(target);
        command.arg("--version").stdin(Stdio::null());
        Self::ask(Question::WhoAreYou, command)
    }

    fn ask(question: Question, mut command: Command) -> io::Result<(Self, OwnedFd)> {
        let check = Self { question, child: command.spawn()? };
        let pidfd = pidfd_open(check.child.id().cast_signed())?;
        Ok((check, pidfd))
    }

    /// Takes the answer of a child that has ended.
    ///
    /// # Errors
    /// As `waitpid(2)` and `read(2)`.
    pub fn answer(mut self) -> io::Result<Answer> {
        let status = self.child.wait()?;
        let mut bytes = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            // Somebody else may have the pipe open, but what the child wrote is there.
            crate::sys::fd::set_nonblocking(&stdout)?;
            match stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(match (self.question, text.strip_prefix(GREETING).map(str::trim)) {
            (Question::CouldYou, Some(OK)) if status.success() => Answer::Ours,
            (Question::CouldYou, Some(reason)) => Answer::No(reason.to_owned()),
            (Question::CouldYou, None) => Answer::Unknown,
            (Question::WhoAreYou, _) if status.success() && text.contains(LIBVIRTS) => {
                Answer::Libvirts
            }
            (Question::WhoAreYou, _) => Answer::No(format!(
                "it is neither this program nor libvirt's: asked for its version it says {:?} \
                 ({status})",
                text.lines().next().unwrap_or_default()
            )),
        })
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        // One that has been waited for has no process any more.
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// What the child answers.
#[must_use]
pub fn answer_text(result: Result<(), String>) -> String {
    format!("{GREETING}{}\n", result.err().as_deref().unwrap_or(OK))
}

/// It must not take itself for a service: neither our supervisor nor our sockets concern it.
fn command(target: &Target) -> Command {
    let mut command = Command::new(&target.path);
    if let Some(name) = target.arguments.first() {
        command.arg0(name);
    }
    for name in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", super::state::VARIABLE] {
        command.env_remove(name);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    use super::*;

    /// The answers of a script to both questions.
    fn answers(script: &str) -> (Answer, Answer) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let target = Target::find(vec![path.into(), "-d".into()], None).unwrap();
        let answer = |(check, pidfd): (Check, OwnedFd)| {
            let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut polled, PollTimeout::from(20_000_u16)).unwrap(), 1);
            check.answer().unwrap()
        };
        let first = answer(Check::could_you(&target, b"document").unwrap());
        (first, answer(Check::who_are_you(&target).unwrap()))
    }

    #[test]
    fn a_daemon_of_ours_reads_the_document_and_answers() {
        let script = r#"[ "$1 $2 $(cat)" = "--check-handover -d document" ] && echo "$OK""#;
        let script = script.replace("$OK", answer_text(Ok(())).trim());
        assert_eq!(answers(&script).0, Answer::Ours);
        let no = answer_text(Err("line 3".into()));
        assert_eq!(answers(&format!("echo '{}'", no.trim())).0, Answer::No("line 3".into()));
    }

    #[test]
    fn libvirts_show_by_their_version() {
        let script = r#"[ "$1" = --version ] && echo "$0 (libvirt) 9.0.0""#;
        assert_eq!(answers(script), (Answer::Unknown, Answer::Libvirts));
    }

    #[test]
    fn whatever_else_ends_at_once_is_neither() {
        for script in ["exit 1", "exit 0", "echo 1.2"] {
            let (first, second) = answers(script);
            assert!(matches!((first, second), (Answer::Unknown, Answer::No(_))), "{script}");
        }
    }
}
