//! Input of a client.

use super::Client;
use super::closed::{Closed, attempt};
use crate::fd_store::pending_reply::PendingReply;
use crate::rpc::connection::{Message, READ_BYTES_MAX, Want};
use crate::sys::socket::{self, Received};

impl Client {
    /// Reads until a message is complete; `None` when nothing more can be read now. After a short
    /// read no second read is tried: later input makes an event. With `only_rest` it reads nothing
    /// behind the message.
    pub(in crate::server) fn read_message(
        &mut self,
        only_rest: bool,
    ) -> Result<Option<Message>, Closed> {
        let mut message = self.connection.resume()?;
        while message.is_none() && self.may_have_input {
            let wanted = self.connection.wants();
            if wanted == Want::Nothing || !self.prepare_to_read()? {
                break;
            }
            message = match wanted {
                Want::Body => self.read_body()?,
                Want::Anything | Want::Nothing => self.read_anything(only_rest)?,
            };
        }
        if message.is_none() {
            self.note(self.pending_reply());
        }
        Ok(message)
    }

    /// Marks the pending reply of a stored client as unknown before reading. Returns whether there
    /// is input. It peeks first: mostly there is none, and a kill between mark and read must not
    /// cost the connection.
    fn prepare_to_read(&mut self) -> Result<bool, Closed> {
        if let Some((_, Some(record))) = &mut self.stored {
            match attempt(|| socket::peek(&self.socket))? {
                None => self.may_have_input = false,
                Some(0) => {}
                Some(_) => record.note(PendingReply::Unknown),
            }
        }
        Ok(self.may_have_input)
    }

    fn read_anything(&mut self, only_rest: bool) -> Result<Option<Message>, Closed> {
        let mut bytes = [0; READ_BYTES_MAX];
        let missing = if only_rest { self.connection.missing_bytes() } else { READ_BYTES_MAX };
        let bytes = bytes.get_mut(..missing.min(READ_BYTES_MAX)).unwrap_or_default();
        match attempt(|| socket::receive(&self.socket, bytes))? {
            None => self.may_have_input = false,
            Some(Received { count: 0, .. }) => return Err(self.ended()),
            Some(Received { count, fds, may_have_more }) => {
                self.may_have_input = may_have_more || self.is_ending;
                let bytes = bytes.get(..count).unwrap_or_default();
                return Ok(self.connection.received(bytes, fds)?);
            }
        }
        Ok(None)
    }

    fn read_body(&mut self) -> Result<Option<Message>, Closed> {
        let space = self.connection.space();
        match attempt(|| Ok(nix::unistd::read(&*self.socket, space)?))? {
            None => self.may_have_input = false,
            Some(0) => return Err(self.ended()),
            Some(count) => return Ok(self.connection.filled(count)?),
        }
        Ok(None)
    }

    fn ended(&self) -> Closed {
        if self.connection.is_mid_message() { Closed::EndMidMessage } else { Closed::End }
    }
}
