//! Registration of a connection.

use std::sync::Arc;

use crate::ids::OwnerId;
use crate::protocol::Guest;

/// Owner and guest that a connection is registered for.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) owner: OwnerId,
    pub(crate) guest: Arc<Guest>,
}
