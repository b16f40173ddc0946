//! Framing of a client's stream, with fds, and an upgrade at any moment.

use common::rpc::Connection;

use super::input::Input;
use super::peer::{Reference, Stream, hand_over, read, seen};

/// Reads of one input.
const READS_MAX: usize = 2000;

/// Whatever pieces the stream comes in, and whenever the connection is handed over, the messages
/// are those that a reference finds byte by byte, and the stream is refused where that refuses it.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut stream = Stream::default();
    let (mut connection, mut reference) = (Connection::new(), Reference::default());
    let mut messages = Vec::new();
    for _ in 0..READS_MAX {
        let action = input.byte();
        if stream.is_empty() {
            if input.is_empty() {
                break;
            }
            match action & 0x80 {
                0 => stream.send(&mut input),
                _ => stream.push(input.bytes().to_vec(), usize::from(action & 3)),
            }
        }
        let len_max = if action & 4 == 0 { usize::MAX } else { 1 + usize::from(input.byte()) };
        let mut message = match connection.resume() {
            Ok(None) => {
                let only_rest = action & 8 != 0;
                read(&mut connection, &mut stream, &mut reference, len_max, only_rest)
            }
            resumed => resumed.map_err(drop),
        };
        if let Ok(Some(message)) = &message {
            messages.push(seen(message));
            connection.dropped();
        }
        if message.is_err() {
            assert!(reference.is_violated, "refused without a reason");
            assert!(reference.seen.starts_with(&messages), "other messages before the violation");
            return;
        }
        if action & 0x10 != 0 {
            connection = hand_over(connection);
        }
        message = Ok(None);
        drop(message);
    }
    while let Ok(Some(message)) = connection.resume() {
        messages.push(seen(&message));
        connection.dropped();
    }
    if !reference.is_violated {
        assert_eq!(messages, reference.seen);
    }
}
