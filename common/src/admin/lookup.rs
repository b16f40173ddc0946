//! Lookup of servers by name and of clients by id, with libvirt's two error texts for each.

use super::{ADMIN_SERVER_NAME, Client, Server, Target};
use crate::rpc::error::{Code, Domain, Error};

/// Layer of libvirt whose error text applies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wording {
    Rpc,
    Admin,
}

impl Wording {
    fn no_server(self, name: &[u8]) -> Error {
        let (domain, head, tail) = match self {
            Self::Rpc => (Domain::Rpc, "No server named '", "'"),
            Self::Admin => (Domain::Admin, "no server with matching name '", "' found"),
        };
        let detail = [head.as_bytes(), name, tail.as_bytes()].concat();
        Error::new(Code::NoServer, domain, detail)
    }

    pub(super) fn no_client(self, id: u64) -> Error {
        let (domain, detail) = match self {
            Self::Rpc => (Domain::Rpc, format!("No client with matching ID '{id}'")),
            Self::Admin => (Domain::Admin, format!("no client with matching id '{id}' found")),
        };
        Error::new(Code::NoClient, domain, detail)
    }
}

pub(super) fn server_named(
    target: &dyn Target,
    name: &[u8],
    wording: Wording,
) -> Result<Server, Error> {
    if name == target.main_server_name().as_bytes() {
        Ok(Server::Main)
    } else if name == ADMIN_SERVER_NAME.as_bytes() {
        Ok(Server::Admin)
    } else {
        Err(wording.no_server(name))
    }
}

pub(super) fn client_of(
    target: &dyn Target,
    server: Server,
    id: u64,
    wording: Wording,
) -> Result<Client, Error> {
    let clients = target.clients(server);
    clients.into_iter().find(|client| client.id == id).ok_or_else(|| wording.no_client(id))
}
