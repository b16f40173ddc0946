//! A client with no more system calls than needed, and what a socket alone allows it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use tests::wire::{HEADER_BYTES, Header, LOG_PROGRAM, kind};

use crate::guest::LogDaemon;
use crate::table::Contender;
use crate::usage::{as_f64, micros, thread_cpu};

/// A thread that answers every call at once, through a socket as the daemons have.
pub(crate) const SOCKET: Contender = Contender::Peer("bare socket");

/// One call to send, one or more to receive.
#[derive(Debug)]
pub(crate) struct Caller {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Caller {
    /// A client of a daemon.
    pub(crate) fn connect(logs: &LogDaemon) -> Self {
        Self::over(UnixStream::connect(logs.daemon.main_socket()).expect("connecting"))
    }

    fn over(stream: UnixStream) -> Self {
        Self { stream, buffer: vec![0; 2 * 1_048_576] }
    }

    /// The payload of the answer, which must not be an error.
    pub(crate) fn call(&mut self, message: &[u8]) -> &[u8] {
        self.stream.write_all(message).expect("sending a call");
        let (mut received, mut length) = (0, HEADER_BYTES);
        while received < length {
            let count = self.stream.read(&mut self.buffer[received..]).expect("an answer");
            assert_ne!(count, 0, "the daemon has closed the connection");
            received += count;
            if let Some(word) = self.buffer[..received].first_chunk() {
                length = u32::from_be_bytes(*word).try_into().expect("a length fits memory");
            }
        }
        assert_eq!(self.buffer[HEADER_BYTES - 4..HEADER_BYTES], [0; 4], "the answer is an error");
        &self.buffer[HEADER_BYTES..length]
    }
}

/// Calls per second, and CPU time per answer in microseconds, when nothing is done for an answer
/// of `payload_bytes` but to send it.
pub(crate) fn socket_alone(message: &[u8], payload_bytes: usize, span: Duration) -> Vec<f64> {
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    let call_bytes = message.len();
    let answering = std::thread::spawn(move || answer(server, call_bytes, payload_bytes));
    let mut caller = Caller::over(client);
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < span {
        caller.call(message);
        count += 1;
    }
    let (wall, count) = (started.elapsed().as_secs_f64(), as_f64(count));
    drop(caller);
    let cpu = answering.join().expect("the answering thread");
    vec![count / wall, micros(cpu) / count]
}

fn answer(mut stream: UnixStream, call_bytes: usize, payload_bytes: usize) -> Duration {
    let header = Header { kind: kind::REPLY, ..Header::call(LOG_PROGRAM, 1) };
    let (message, mut call) = (header.message(&vec![0; payload_bytes]), vec![0; call_bytes]);
    let cpu = thread_cpu();
    while stream.read_exact(&mut call).is_ok() {
        stream.write_all(&message).expect("sending an answer");
    }
    thread_cpu() - cpu
}
