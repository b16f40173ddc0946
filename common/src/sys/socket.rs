//! Unix sockets: listening, fds as messages, and the peer's identity.

mod listen;
mod message;
mod peer;
mod receive;
mod send;
mod wait;

pub use listen::{
    accept, bound_path, is_listened_at, is_listener_at, is_listening, listen_at, listener_from,
};
pub use message::{
    Message, bind_messages, connect_for_packets, is_bound_at, listen_for_packets, receive_message,
};
pub use peer::{Peer, has_hung_up, peer, peer_label, peer_pidfd};
#[cfg(test)]
pub(crate) use receive::receive_datagram;
pub use receive::{Received, peek, receive};
pub use send::{send, send_datagram, send_datagram_to, send_fd};
pub use wait::{connect_until, read_until, send_until};

#[cfg(test)]
mod tests;
