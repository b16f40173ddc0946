//! Processes that stand in for guests, from both sides: what they do, and starting them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use tests::wire::{LockClient, Owner};

use crate::failure::{Failure, promised};
use crate::lines::line;
use crate::role::Role;
use crate::{DEADLINE, PAUSE};

/// Lines that a guest writes between two pauses.
const BURST_LINES: u32 = 100;

/// How long it pauses, so that one can see its log grow.
const BURST_PERIOD: Duration = Duration::from_millis(10);

/// What a guest says when it has the disk.
const GRANTED: &str = "granted";

/// A guest that writes numbered lines on its standard output, which is its log's pipe.
#[derive(Debug)]
pub(crate) struct Writer {
    process: Child,
}

impl Writer {
    /// Starts it; the pipe is then open in no other process that matters.
    pub(crate) fn start(name: &str, lines: u32, pipe: File) -> Result<Self, Failure> {
        let process = Role::Writer
            .command()
            .args([name, &lines.to_string()])
            .stdout(pipe)
            // Its exit status says enough: a log without virtlogd is a broken pipe.
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::system("starting a guest", error))?;
        Ok(Self { process })
    }

    /// The guest's process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has written all of its lines and ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Failure> {
        let ended = self.process.try_wait().map_err(|error| Failure::system("waiting", error))?;
        ended.map_or(Ok(false), |status| {
            promised(status.success(), format!("the guest could not write: {status}"))
                .map(|()| true)
        })
    }

    /// Waits for that.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE;
        while !self.has_ended()? {
            promised(Instant::now() < deadline, "the guest does not get its lines written")?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// A guest that asks for disk images when it is told to, and lives until it is killed.
#[derive(Debug)]
pub(crate) struct DiskUser {
    process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl DiskUser {
    /// Starts it and lets it register with the virtlockd at `socket`.
    pub(crate) fn start(name: &str, socket: &Path) -> Result<Self, Failure> {
        let mut process = Role::DiskUser
            .command()
            .arg(name)
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::system("starting a guest", error))?;
        let (Some(orders), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Failure::Promise("a guest has no standard streams".into()));
        };
        Ok(Self { process, orders, answers: BufReader::new(answers).lines() })
    }

    /// The guest's process, which its leases belong to.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets it ask for the lease; gives virtlockd's words when that is refused.
    pub(crate) fn ask(&mut self, image: &Path) -> Result<Result<(), String>, Failure> {
        let lost = |error| Failure::system("talking to a guest", error);
        writeln!(self.orders, "{}", image.display()).map_err(lost)?;
        let answer = self.answers.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()));
        let answer = answer.map_err(lost)?;
        Ok(if answer == GRANTED { Ok(()) } else { Err(answer) })
    }

    /// Ends it without asking it.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        let failed = |error| Failure::system("killing a guest", error);
        self.process.kill().map_err(failed)?;
        self.process.wait().map_err(failed)?;
        Ok(())
    }
}

/// The life of a [`Writer`].
pub(crate) fn write_lines(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let name = text(arguments.next())?;
    let last = text(arguments.next())?.parse().map_err(|_| Failure::Arguments)?;
    // It writes at each newline, as QEMU does.
    let mut pipe = io::stdout().lock();
    for number in 1..=last {
        pipe.write_all(line(&name, number).as_bytes())
            .map_err(|error| Failure::system("writing a line", error))?;
        if number % BURST_LINES == 0 {
            std::thread::sleep(BURST_PERIOD);
        }
    }
    Ok(())
}

/// The life of a [`DiskUser`].
pub(crate) fn use_disks(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let name = text(arguments.next())?;
    let socket = arguments.next().ok_or(Failure::Arguments)?;
    let mut virtlockd = LockClient::connect(socket.as_ref())
        .map_err(|error| Failure::system("connecting to virtlockd", error))?;
    let owner = Owner { uuid: uuid(&name), name, id: 1, pid: std::process::id() };
    virtlockd.register(&owner, 0).map_err(|error| Failure::refused("registering", error))?;
    for image in io::stdin().lines() {
        let image = image.map_err(|error| Failure::system("reading orders", error))?;
        match virtlockd.acquire("", &image, 0) {
            Ok(()) => println!("{GRANTED}"),
            Err(error) => println!("{}", error.message.unwrap_or_default()),
        }
    }
    Ok(())
}

/// The guest's name as a UUID, padded with zeros.
fn uuid(name: &str) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    uuid
}

fn text(argument: Option<OsString>) -> Result<String, Failure> {
    argument.and_then(|argument| argument.into_string().ok()).ok_or(Failure::Arguments)
}
