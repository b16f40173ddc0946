//! State that virt-admin may see and change.

use std::time::Duration;

use super::caller::ClientId;
use super::client::Closed;
use super::core::{Core, Done, NOT_THE_DAEMONS};
use super::daemon::Answer;
use super::names::{Names, Numbers};
use crate::admin::{self, Client, Identity, Limits, Server, Target};
use crate::jobs::storage::StorageId;
use crate::rpc::{self, Call};

impl<O> Core<O> {
    /// Handles a call to the admin server. A call that needs names or opened log files changes
    /// nothing; a job provides them, and the call is handled again.
    pub(super) fn administer(&mut self, asking: ClientId, call: Call) -> Answer {
        self.unnamed.set(None);
        let outcome = admin::dispatch(&call, self);
        if let Some((place, opening)) = self.unopened.take() {
            self.jobs.submit(place, NOT_THE_DAEMONS, move || {
                Done::Outputs(asking, call, opening.open())
            });
            return Answer::Later;
        }
        if let Some(numbers) = self.unnamed.take() {
            self.jobs.submit(StorageId::NAMES, NOT_THE_DAEMONS, move || {
                Done::Names(asking, call, Names::look_up(numbers))
            });
            return Answer::Later;
        }
        if outcome.close
            && let Some(client) = self.servers.client(asking)
        {
            client.close_when_sent();
        }
        Answer::Now(outcome.result)
    }

    pub(super) fn names_are_known(&mut self, asking: ClientId, call: Call, names: Names) {
        self.names = Some(names);
        let answer = self.administer(asking, call);
        self.names = None;
        if let Answer::Now(result) = answer {
            self.answer(asking, result);
        }
    }
}

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
        let numbers = Numbers { uid: peer.uid, gid: peer.gid };
        let names = self.names.as_ref().filter(|names| names.of == numbers);
        if names.is_none() {
            self.unnamed.set(Some(numbers));
        }
        Some(Identity {
            uid: peer.uid,
            user_name: names.and_then(|names| names.user.clone()),
            gid: peer.gid,
            group_name: names.and_then(|names| names.group.clone()),
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
        match server {
            Server::Main => self.overrides.main_limits = Some(limits),
            Server::Admin => self.overrides.admin_limits = Some(limits),
        }
        self.settings_have_changed();
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
        match self.opened.take() {
            Some(outputs) => {
                self.use_log_outputs(setting, outputs.map_err(|error| error.to_rpc())?);
            }
            None => {
                let opening = self.logger.opening(setting).map_err(|error| error.to_rpc())?;
                self.unopened = Some((StorageId::own_log(setting), opening));
            }
        }
        Ok(())
    }

    fn log_filters(&self) -> Vec<String> {
        self.logger.filters()
    }

    fn set_log_filters(&mut self, setting: &str) -> Result<(), rpc::Error> {
        self.logger.set_filters(setting).map_err(|error| error.to_rpc())?;
        self.overrides.log_filters = Some(setting.to_owned());
        self.settings_have_changed();
        Ok(())
    }

    fn set_idle_timeout_s(&mut self, timeout_s: u32) {
        let timeout = (timeout_s > 0).then(|| Duration::from_secs(timeout_s.into()));
        self.idle.set_timeout(&mut self.reactor, timeout);
        self.overrides.timeout_s = Some(timeout_s);
        self.settings_have_changed();
    }
}
