//! A daemon, as a tool asks it.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
/// A value as the daemon has sent it.
pub use serde_json::Value as Json;

use crate::client::{self, Client};
use crate::query::{Counters, ListArguments, procedure};

/// A daemon to be asked.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
}

#[derive(Debug, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl Daemon {
    /// Connects to the admin socket at `socket`.
    ///
    /// # Errors
    /// [`client::Error::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, client::Error> {
        Ok(Self { client: Client::connect(socket)? })
    }

    /// Returns facts about the daemon.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn status(&mut self) -> Result<Json, client::Error> {
        self.client.call(procedure::STATUS, &serde_json::json!({}))
    }

    /// Returns counts of what the daemon has done.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn counters(&mut self) -> Result<Counters, client::Error> {
        self.client.call(procedure::COUNTERS, &serde_json::json!({}))
    }

    /// Decodes what the daemon has told.
    ///
    /// # Errors
    /// [`client::Error::Damaged`].
    pub fn decode<T: DeserializeOwned>(&self, value: Json) -> Result<T, client::Error> {
        serde_json::from_value(value).map_err(|error| self.client.damaged(error))
    }

    /// Shows all logs or leases to `see`.
    ///
    /// # Errors
    /// As [`Client::call`], and those of `see`.
    pub fn each<T: DeserializeOwned, E: From<client::Error>>(
        &mut self,
        see: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each_behind(None, see)
    }

    /// Shows the logs or leases behind a place to `see`.
    ///
    /// # Errors
    /// As [`Self::each`].
    pub fn each_behind<T: DeserializeOwned, E: From<client::Error>>(
        &mut self,
        place: Option<String>,
        mut see: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut arguments = ListArguments { after: place, ..ListArguments::default() };
        loop {
            let page: Page<T> = self.client.call(procedure::LIST, &arguments)?;
            page.items.into_iter().try_for_each(&mut see)?;
            if page.next.is_none() {
                return Ok(());
            }
            arguments.after = page.next;
        }
    }
}
