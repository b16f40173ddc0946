//! Calls of virt-admin.

use super::{ADMIN_PROGRAM, Connection, Header, Reader, Writer};

/// Procedure number (libvirt's value, on the wire).
const SERVER_LIST_CLIENTS: i32 = 8;

/// The message that asks for a server's clients.
pub fn list_clients(server: &str) -> Vec<u8> {
    Header::call(ADMIN_PROGRAM, SERVER_LIST_CLIENTS).message(&arguments(server))
}

/// The numbers of a server's clients.
pub fn client_ids(admin: &mut Connection, server: &str) -> Vec<u64> {
    let answer = admin.call(ADMIN_PROGRAM, SERVER_LIST_CLIENTS, &arguments(server));
    let (payload, _) = answer.expect("a list of clients");
    let mut reader = Reader::new(&payload);
    let count = reader.u32();
    let ids = (0..count)
        .map(|_| {
            assert_eq!(reader.string(), server.as_bytes());
            let id = reader.u64();
            let (_connected_at_s, transport) = (reader.u64(), reader.u32());
            assert_eq!(transport, 0);
            id
        })
        .collect();
    assert_eq!(reader.u32(), count);
    reader.end();
    ids
}

fn arguments(server: &str) -> Vec<u8> {
    Writer::new().string(server).u32(1).u32(0).into_bytes()
}
