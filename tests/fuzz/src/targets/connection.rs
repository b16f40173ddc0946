//! A connection as a sequence of events: reads, answers, partial writes, an upgrade.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use common::rpc::connection::{Message, Unsent, Want};
use common::rpc::error::{Code, Domain};
use common::rpc::header::kind;
use common::rpc::program::{self, Incoming, ReplyTo};
use common::rpc::{Connection, Error, Program, Reply};

use super::input::Input;
use super::peer::{Reference, Stream, an_fd, hand_over, inode, read, seen};

const PROGRAM: Program = Program { number: 0x8753_9319, version: 1, last_procedure: 4 };
const EVENTS_MAX: usize = 1000;

/// Data that a client is to receive: bytes, and with some of them an fd.
#[derive(Default)]
struct Owed(VecDeque<(u8, Option<u64>)>);

impl Owed {
    fn add(&mut self, front: [&[u8]; 2], fds: &[OwnedFd]) {
        self.0.extend(front.concat().into_iter().map(|byte| (byte, None)));
        self.0.extend(fds.iter().map(|fd| (0, Some(inode(fd)))));
    }
}

/// A daemon that serves one client.
#[derive(Default)]
struct Daemon {
    connection: Connection,
    stream: Stream,
    reference: Reference,
    owed: Owed,
    calls: usize,
    in_flight: Option<ReplyTo>,
}

/// Every message is answered or dropped once, in the order of the stream; what is written is what
/// was answered; and nothing is read while an answer is owed.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut daemon = Daemon::default();
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        if daemon.step(&mut input).is_err() {
            assert!(daemon.reference.is_violated, "refused without a reason");
            return;
        }
        daemon.check();
    }
}

impl Daemon {
    fn step(&mut self, input: &mut Input<'_>) -> Result<(), ()> {
        let action = input.byte();
        match action & 7 {
            0 => self.stream.send(input),
            1 => self.stream.push(input.bytes().to_vec(), usize::from(action >> 6)),
            2 | 3 => return self.read(action, input),
            4 => self.answer(action, input),
            5 | 6 => self.write(1 + input.below(3000)),
            // A call in flight keeps an upgrade waiting.
            _ if self.in_flight.is_none() => {
                self.connection = hand_over(std::mem::take(&mut self.connection));
            }
            _ => {}
        }
        Ok(())
    }

    fn read(&mut self, action: u8, input: &mut Input<'_>) -> Result<(), ()> {
        let len_max = if action & 8 == 0 { usize::MAX } else { 1 + usize::from(input.byte()) };
        let message = match self.connection.resume().map_err(drop)? {
            None => read(
                &mut self.connection,
                &mut self.stream,
                &mut self.reference,
                len_max,
                action & 16 != 0,
            )?,
            message => message,
        };
        if let Some(message) = message {
            self.take(message);
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        assert_eq!(seen(&message), self.reference.seen[self.calls]);
        self.calls += 1;
        let is_call = matches!(message.header.kind, kind::CALL | kind::CALL_WITH_FDS);
        let is_ours = message.header.program == PROGRAM.number && message.header.version == 1;
        match program::accept(&[PROGRAM], message) {
            Incoming::Call(call, reply_to) => {
                assert!(is_call && is_ours && (1..=4).contains(&call.procedure));
                self.in_flight = Some(reply_to);
                assert_eq!(ReplyTo::from_words(reply_to.to_words()), reply_to);
            }
            Incoming::Answered(answer) => {
                self.owed.add(answer.unsent_bytes(), &[]);
                self.connection.answer(answer);
            }
            Incoming::Dropped => self.connection.dropped(),
        }
    }

    fn answer(&mut self, action: u8, input: &mut Input<'_>) {
        let Some(reply_to) = self.in_flight.take() else { return };
        let result = match action & 8 {
            0 => {
                let fds = (0..action >> 5).map(|_| an_fd()).collect();
                let payload = vec![action; usize::from(input.u16()) % 3000];
                Ok(Reply { payload, fds })
            }
            _ => Err(Error::new(Code::Rpc, Domain::Rpc, input.bytes())),
        };
        let fds = result.iter().flat_map(|reply| &reply.fds);
        let fds: Vec<_> = fds.map(|fd| fd.try_clone().expect("an fd")).collect();
        let answer = reply_to.answer(result);
        let bytes = answer.unsent_bytes().concat();
        let len = u32::from_be_bytes(bytes[..4].try_into().expect("a length"));
        assert_eq!(len as usize, bytes.len(), "the length word is wrong");
        self.owed.add([&bytes, &[]], &fds);
        self.connection.answer(answer);
    }

    /// Writes as the kernel would take it: some bytes, or an fd.
    fn write(&mut self, count: usize) {
        let written = match self.connection.unsent() {
            None => return assert!(self.owed.0.is_empty(), "nothing to send, but it is owed"),
            Some(Unsent::Bytes(parts)) => {
                let bytes = parts.concat();
                let count = count.min(bytes.len());
                assert!(count > 0, "nothing is unsent");
                for byte in &bytes[..count] {
                    assert_eq!(self.owed.0.pop_front(), Some((*byte, None)));
                }
                count
            }
            Some(Unsent::Fd(fd)) => {
                assert_eq!(self.owed.0.pop_front(), Some((0, Some(inode(fd)))));
                1
            }
        };
        self.connection.sent(written);
    }

    fn check(&self) {
        let is_owed = self.in_flight.is_some() || !self.owed.0.is_empty();
        assert_eq!(self.connection.wants() == Want::Nothing, is_owed);
        assert_eq!(self.connection.unsent().is_some(), !self.owed.0.is_empty());
        assert!(self.calls <= self.reference.seen.len());
    }
}
