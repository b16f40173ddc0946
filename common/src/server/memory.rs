//! Limit on the memory of clients' messages: partly received calls and unread answers. A client may
//! have a call and an answer of 32 MiB each, but all clients together may not.

use super::caller::ClientId;
use super::client::Closed;
use super::core::Core;

/// Bytes of messages that one server's clients may have together; ours. libvirtd has a few short
/// connections, and reads its answers.
const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

impl<O> Core<O> {
    /// Counts a client's message bytes after its turn. Beyond the limit the largest client is
    /// closed, among equals the oldest: the newest may be about to read.
    pub(super) fn count_bytes(&mut self, id: ClientId) {
        let server = self.servers.get_mut(id.server);
        let Some(client) = server.clients.get_mut(&id.number) else { return };
        let now = client.connection().held_bytes();
        server.held.change(std::mem::replace(&mut client.counted_bytes, now), now);
        server.held.free();
        while self.servers.get(id.server).held.now > HELD_BYTES_MAX {
            let clients = self.servers.get(id.server).clients.values();
            let most = clients
                .max_by_key(|client| (client.counted_bytes, std::cmp::Reverse(client.id().number)));
            let Some(most) = most else { return };
            let (id, bytes) = (most.id(), most.counted_bytes);
            self.drop_client(id, &Closed::Memory(bytes));
        }
    }
}
