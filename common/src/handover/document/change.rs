//! A line of the journal.

use serde::{Deserialize, Serialize};

use super::client::Client;
use super::lease::Lockspace;
use super::lenient::{lenient, object};
use super::log::Log;
use super::owner::Ending;
use crate::handover::text::{bytes_of, hex_unless_text, text};

/// A change in the fd store; with a key alone, the item's removal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Change {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// A lease, as a lockspace with one resource.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lockspace<'static>>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    /// Directory of a lockspace.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// Its bytes in hexadecimal, if they are not UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub space_hex: Option<String>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl Change {
    /// Returns the change that adds a lockspace.
    #[must_use]
    pub fn added_space(directory: &[u8]) -> Self {
        let space_hex = hex_unless_text(directory);
        let space = space_hex.is_none().then(|| text(directory));
        Self { space, space_hex, ..Self::default() }
    }

    /// Returns the lockspace that was added.
    #[must_use]
    pub fn space(&self) -> Option<Lockspace<'static>> {
        let hex = self.space_hex.as_deref();
        let directory = bytes_of(hex, self.space.as_deref().unwrap_or_default());
        (!directory.is_empty()).then(|| Lockspace::at(&directory))
    }
}
