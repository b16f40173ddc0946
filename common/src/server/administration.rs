//! What virt-admin may see and change.

use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};

use super::Core;
use super::client::{ClientId, Closed};
use crate::admin::{Client, Identity, Limits, Server, Target};
use crate::rpc;

impl<O> Target for Core<O> {
    fn main_server_name(&self) -> &str {
        self.servers.main.name
    }

    fn clients(&self, server: Server) -> Vec<Client> {
        let clients = self.servers.get(server).clients.iter();
        clients
            .map(|(&id, client)| Client { id, connected_at_s: client.connected_at_s() })
            .collect()
    }

    fn identity(&self, server: Server, client_id: u64) -> Option<Identity> {
        let client = self.servers.get(server).clients.get(&client_id)?;
        let peer = client.caller().peer;
        let user = User::from_uid(Uid::from_raw(peer.uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(peer.gid)).ok().flatten();
        Some(Identity {
            uid: peer.uid,
            user_name: user.map(|user| user.name),
            gid: peer.gid,
            group_name: group.map(|group| group.name),
            pid: peer.pid,
            selinux_label: client.label(),
        })
    }

    fn close_client(&mut self, server: Server, client_id: u64) {
        self.drop_client(ClientId { server, number: client_id }, &Closed::Asked);
    }

    fn limits(&self, server: Server) -> Limits {
        self.servers.get(server).limits
    }

    fn set_limits(&mut self, server: Server, limits: Limits) {
        self.servers.get_mut(server).limits = limits;
        self.accept(server);
    }

    fn priority_workers(&self, server: Server) -> u32 {
        self.servers.get(server).priority_workers
    }

    fn set_priority_workers(&mut self, server: Server, count: u32) {
        self.servers.get_mut(server).priority_workers = count;
    }

    fn log_outputs(&self) -> Vec<String> {
        self.logger.outputs()
    }

    fn set_log_outputs(&mut self, setting: &str) -> Result<(), rpc::Error> {
        self.logger.set_outputs(setting).map_err(|error| error.to_rpc())?;
        self.overrides.log_outputs = Some(setting.to_owned());
        Ok(())
    }

    fn log_filters(&self) -> Vec<String> {
        self.logger.filters()
    }

    fn set_log_filters(&mut self, setting: &str) -> Result<(), rpc::Error> {
        self.logger.set_filters(setting).map_err(|error| error.to_rpc())?;
        self.overrides.log_filters = Some(setting.to_owned());
        Ok(())
    }

    fn set_idle_timeout_s(&mut self, timeout_s: u32) {
        let timeout = (timeout_s > 0).then(|| Duration::from_secs(timeout_s.into()));
        self.idle.set_timeout(&mut self.reactor, timeout);
        self.overrides.timeout_s = Some(timeout_s);
    }
}
