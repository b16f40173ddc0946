//! A client and a guest that notice for how long a daemon does nothing for them.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::content::Content;
use crate::guest::{Guest, stored_bytes};
use crate::rpc;

/// When a call is made again: an answer may be lost for good, and what is measured then is when
/// the next one comes.
const PATIENCE: Duration = Duration::from_millis(5);

/// Time between two lines of a guest.
const LINE_PERIOD: Duration = Duration::from_millis(1);

/// How often a guest's log is looked at.
const LOOK_PERIOD: Duration = Duration::from_micros(200);

/// When an answer that has not come is counted as lost.
const ANSWER_LOST_AFTER: Duration = Duration::from_secs(2);

/// When a line that has not come is counted as lost.
const LINE_LOST_AFTER: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Client<'a> {
    stream: &'a UnixStream,
    unparsed: Vec<u8>,
    calls: u32,
    answers: u32,
    last: Instant,
    longest: Duration,
}

/// Calls back to back; gives the longest time without an answer, and how many never came.
pub(crate) fn call_until(
    stream: &UnixStream,
    call: &[u8],
    stop: &AtomicBool,
) -> Result<(Duration, f64), String> {
    stream.set_read_timeout(Some(PATIENCE)).expect("setting a timeout");
    let (last, longest) = (Instant::now(), Duration::ZERO);
    let mut client = Client { stream, unparsed: Vec::new(), calls: 0, answers: 0, last, longest };
    while !stop.load(Ordering::Relaxed) {
        client.call(call)?;
        client.receive()?;
    }
    let end = Instant::now() + ANSWER_LOST_AFTER;
    while client.answers < client.calls && Instant::now() < end {
        client.receive()?;
    }
    Ok((client.longest, f64::from(client.calls - client.answers)))
}

impl Client<'_> {
    fn call(&mut self, call: &[u8]) -> Result<(), String> {
        self.calls += 1;
        self.stream.write_all(call).map_err(|error| format!("a client cannot call: {error}"))
    }

    /// Takes the answers that come within [`PATIENCE`].
    fn receive(&mut self) -> Result<(), String> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err("it closed a client's connection".to_owned()),
            Ok(count) => self.unparsed.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("a client gets {error}")),
        }
        while let Some(length) = rpc::first_message(&self.unparsed).map(<[u8]>::len) {
            self.unparsed.drain(..length);
            self.answers += 1;
            self.longest = self.longest.max(self.last.elapsed());
            self.last = Instant::now();
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Writer<'a> {
    guest: &'a Guest,
    content: Content,
    writes: usize,
    bytes: usize,
    /// Where each line ends in the file that is not there yet, and when it was written.
    waiting: VecDeque<(usize, Instant)>,
    longest: Duration,
}

/// Writes a line each [`LINE_PERIOD`], which must be less than a file holds; gives the longest
/// time that one was not in the file, and their number.
pub(crate) fn write_until(guest: &Guest, stop: &AtomicBool) -> Result<(Duration, usize), String> {
    let (content, waiting, longest) = (Content::lines(), VecDeque::new(), Duration::ZERO);
    let mut writer = Writer { guest, content, writes: 0, bytes: 0, waiting, longest };
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if Instant::now() >= due {
            due = Instant::now() + LINE_PERIOD;
            writer.write()?;
        }
        std::thread::sleep(LOOK_PERIOD);
        writer.look()?;
    }
    while !writer.waiting.is_empty() {
        std::thread::sleep(LOOK_PERIOD);
        writer.look()?;
    }
    Ok((writer.longest, writer.writes))
}

impl Writer<'_> {
    fn write(&mut self) -> Result<(), String> {
        let line = self.content.write(self.writes);
        self.writes += 1;
        self.bytes += line.len();
        self.waiting.push_back((self.bytes, Instant::now()));
        (&self.guest.pipe).write_all(line).map_err(|error| format!("a guest gets {error}"))
    }

    fn look(&mut self) -> Result<(), String> {
        let stored = stored_bytes(&self.guest.path);
        while let Some((end, since)) = self.waiting.front() {
            let delay = since.elapsed();
            if *end > stored {
                let is_late = delay > LINE_LOST_AFTER;
                return if is_late { Err("a line is not stored".to_owned()) } else { Ok(()) };
            }
            self.longest = self.longest.max(delay);
            self.waiting.pop_front();
        }
        Ok(())
    }
}
