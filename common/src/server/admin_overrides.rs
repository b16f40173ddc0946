//! Settings made through the admin socket.

use super::servers::Limits;
use crate::handover::document::PrivateDaemon;

/// Settings made through the admin socket, which outlive this process.
#[derive(Debug, Default)]
pub(super) struct AdminOverrides {
    pub(super) timeout_s: Option<u32>,
    pub(super) log_filters: Option<String>,
    pub(super) log_outputs: Option<String>,
    pub(super) main_limits: Option<Limits>,
    pub(super) admin_limits: Option<Limits>,
}

impl AdminOverrides {
    /// Converts to the form in which a successor reads them.
    pub(super) fn save(&self) -> PrivateDaemon {
        let pair = |limits: Limits| (limits.clients_max, limits.unauthenticated_max);
        PrivateDaemon {
            timeout_s: self.timeout_s,
            log_filters: self.log_filters.clone(),
            log_outputs: self.log_outputs.clone(),
            main_limits: self.main_limits.map(pair),
            admin_limits: self.admin_limits.map(pair),
            ..PrivateDaemon::default()
        }
    }
}
