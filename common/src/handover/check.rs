//! Check of the target: a child process is asked whether it could take over.
//!
//! A daemon of ours reads the document and its configuration and reports what it finds. libvirt's
//! daemons do not know the question. They have to identify themselves by their version, so that a
//! program that would exit at once is never executed in our place.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};

use super::memfd::Memfd;
use super::target::Target;
use crate::sys::fd::set_nonblocking;
use crate::sys::timeout::timeout;
use crate::sys::{calls, pipe, signal};
use crate::sys::{pidfd, process};

/// The hidden option that asks; the document is on stdin then.
pub const OPTION: &str = "check-handover";

/// Beginning of the answer.
const GREETING: &str = "virt-rs hand-over: ";

/// Answer of a daemon that could take over.
const OK: &str = "ok";

/// Part of the version of libvirt's daemons, and of ours, which name libvirt's version first.
const LIBVIRTS: &str = "(libvirt)";

/// End of the name in the second line of our daemons' version, which libvirt's do not have.
const OURS: &str = "-rs ";

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Time for the target to give one answer.
const ANSWER_PERIOD: Duration = Duration::from_secs(10);

/// Stack size of the asking thread, in bytes.
const STACK_BYTES: usize = 256 * 1024;

/// Reads the configuration as a successor would, and returns what is wrong with it.
pub type CheckConfiguration = dyn Fn() -> Result<(), String> + Send + Sync;

/// A check in progress.
#[derive(Debug)]
pub struct Check(JoinHandle<Answer>);

/// Result of the check.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The target is ours and could take over.
    Ours,
    /// The target is libvirt's, and could take over unless we have found something wrong with the
    /// configuration.
    Libvirts(Result<(), String>),
    /// The target could not take over, for this reason.
    No(String),
}

impl Check {
    /// Asks on a thread of its own whether the target could take over from daemon `name` with this
    /// document. The pipe ends when there is an answer. The thread is needed while a FUSE file
    /// system hangs: starting a child hangs, as it closes its copies of our files there, and so
    /// does reading a configuration, which opens the log that it names.
    ///
    /// # Errors
    /// As `pipe2(2)` and `pthread_create(3)`.
    pub fn start(
        target: Target,
        document: Vec<u8>,
        name: &'static str,
        check_configuration: Arc<CheckConfiguration>,
    ) -> io::Result<(Self, OwnedFd)> {
        let (answered, asking) = pipe::pipe()?;
        let thread = thread::Builder::new().name("check".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || {
            // The signal set is fixed, so this cannot fail.
            signal::block().ok();
            let answer = ask(&target, &document, name, &*check_configuration);
            drop(asking);
            answer.unwrap_or_else(|error| Answer::No(error.to_string()))
        })?;
        Ok((Self(thread), answered))
    }

    /// Returns whether the thread still runs.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        !self.0.is_finished()
    }

    /// Returns the answer, after the pipe has ended.
    #[must_use]
    pub fn answer(self) -> Answer {
        self.0.join().unwrap_or_else(|_| Answer::No("it could not be asked".into()))
    }
}

fn ask(
    target: &Target,
    document: &[u8],
    name: &str,
    check_configuration: &CheckConfiguration,
) -> io::Result<Answer> {
    let stdin = File::from(Memfd::of_bytes(document)?.seal());
    io::Seek::rewind(&mut &stdin)?;
    let arguments = target.arguments.get(1..).unwrap_or_default();
    let mut question = command(target);
    question.arg(format!("--{OPTION}")).args(arguments).stdin(stdin);
    let Some((text, status)) = listen(question)? else { return Ok(too_slow()) };
    match text.strip_prefix(GREETING).map(str::trim) {
        Some(OK) if is_success(status) => Ok(Answer::Ours),
        Some(reason) => Ok(Answer::No(reason.to_owned())),
        None => who_are_you(target, name, check_configuration),
    }
}

/// Identifies one of libvirt's daemons by its version, and by its help which one it is.
fn who_are_you(
    target: &Target,
    name: &str,
    check_configuration: &CheckConfiguration,
) -> io::Result<Answer> {
    for (option, sign) in [("--version", LIBVIRTS), ("--help", &format!("/{name}-sock"))] {
        let mut question = command(target);
        question.arg(option).stdin(Stdio::null());
        match listen(question)? {
            None => return Ok(too_slow()),
            // Something has kept it from answering: it is not to be executed as libvirt's is.
            Some((text, _))
                if text.lines().any(|line| line.starts_with(&format!("{name}{OURS}"))) =>
            {
                return Ok(Answer::No("it gave no answer; try again".into()));
            }
            Some((text, status)) if is_success(status) && text.contains(sign) => {}
            Some((text, status)) => {
                let status = status.map_or("how it ended is not known".into(), |it| it.to_string());
                return Ok(Answer::No(format!(
                    "it is neither this program nor libvirt's {name}: asked with {option} it says \
                     {:?} ({status})",
                    text.lines().next().unwrap_or_default()
                )));
            }
        }
    }
    Ok(Answer::Libvirts(check_configuration()))
}

fn too_slow() -> Answer {
    Answer::No(format!("it did not answer within {} s", ANSWER_PERIOD.as_secs()))
}

/// Returns whether a child succeeded. If its status cannot be read, its output alone decides.
fn is_success(status: Option<ExitStatus>) -> bool {
    status.is_none_or(|status| status.success())
}

/// Returns the output of a child, and its exit status if that can be read; `None` if it took too
/// long and was killed.
fn listen(mut command: Command) -> io::Result<Option<(String, Option<ExitStatus>)>> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let pidfd = pidfd::open(child.id().cast_signed())?;
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let ended = poll(&mut polled, timeout(ANSWER_PERIOD))? > 0;
    if !ended {
        child.kill()?;
    }
    let status = calls::or_else(process::wait(&mut child).map(Some), || Ok(None))?;
    let mut bytes = Vec::new();
    let outputs = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    for output in outputs.into_iter().flatten() {
        // Another process may have the pipe open, but the child's output is there.
        set_nonblocking(&output)?;
        match File::from(output).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(ended.then(|| (String::from_utf8_lossy(&bytes).into_owned(), status)))
}

/// Formats the answer that the child gives.
#[must_use]
pub fn answer_text(result: Result<(), String>) -> String {
    format!("{GREETING}{}\n", result.err().as_deref().unwrap_or(OK))
}

/// Returns the command. Without the environment of a service: our supervisor and sockets do not
/// concern the child.
fn command(target: &Target) -> Command {
    let mut command = Command::new(&target.path);
    if let Some(name) = target.arguments.first() {
        command.arg0(name);
    }
    for name in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", super::state::VARIABLE] {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests;
