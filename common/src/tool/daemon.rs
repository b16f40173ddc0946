//! A daemon, as a tool asks it.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{self, Client};
use crate::query::{ListArguments, PAGE_BYTES_MAX, procedure};

/// A daemon to be asked.
#[derive(Debug)]
pub struct Daemon {
    client: Client,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Value>,
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
    pub fn status(&mut self) -> Result<Value, client::Error> {
        self.client.call(procedure::STATUS, &serde_json::json!({}))
    }

    /// Decodes what the daemon has told.
    ///
    /// # Errors
    /// [`client::Error::Damaged`].
    pub fn decode<T: DeserializeOwned>(&self, value: Value) -> Result<T, client::Error> {
        serde_json::from_value(value).map_err(|error| self.client.damaged(error))
    }

    /// Shows all logs or leases to `see`.
    ///
    /// # Errors
    /// As [`Client::call`], and those of `see`.
    pub fn each_as<T: DeserializeOwned, E: From<client::Error>>(
        &mut self,
        mut see: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut items = Vec::new();
        self.each(|item| {
            items.push(item);
            Ok::<_, client::Error>(())
        })?;
        items.into_iter().try_for_each(|item| see(self.decode(item)?))
    }

    /// Shows all logs or leases to `see`, as JSON.
    ///
    /// # Errors
    /// As [`Client::call`], and those of `see`.
    pub fn each<E: From<client::Error>>(
        &mut self,
        mut see: impl FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let limit_bytes = Some(PAGE_BYTES_MAX as u64);
            let page: Page =
                self.client.call(procedure::LIST, &ListArguments { after, limit_bytes })?;
            page.items.into_iter().try_for_each(&mut see)?;
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }
}
