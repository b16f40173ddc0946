//! A page of a list, as JSON.

use std::ops::ControlFlow;

use serde::Serialize;

use super::place::Place;

/// Bytes of the items of a page at most, if there is more than one. An item has some 150 KiB at most,
/// as paths and names are limited, and a message some 32 MiB.
pub const PAGE_BYTES_MAX: usize = 65_536;

/// Begin of the answer.
const HEAD: &[u8] = b"{\"items\":[";

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    /// Begin of the answer, up to the last item.
    json: Vec<u8>,
    limit_bytes: usize,
    last: Place,
    is_full: bool,
}

impl Page {
    /// Makes an empty page with a limit for its items.
    #[must_use]
    pub fn new(limit_bytes: Option<u64>) -> Self {
        let limit = limit_bytes.and_then(|limit| usize::try_from(limit).ok());
        let limit_bytes = limit.map_or(PAGE_BYTES_MAX, |limit| limit.min(PAGE_BYTES_MAX));
        Self { json: HEAD.to_vec(), limit_bytes, last: Place::default(), is_full: false }
    }

    /// Adds an item with its place, which is behind all others. Breaks once an item does not fit;
    /// the first one always does, so that each page leads on.
    pub fn push(&mut self, place: Place, item: &impl Serialize) -> ControlFlow<()> {
        let before = self.json.len();
        let is_first = before == HEAD.len();
        if !is_first {
            self.json.push(b',');
        }
        let written = serde_json::to_writer(&mut self.json, item);
        if written.is_err() || (!is_first && self.json.len() > HEAD.len() + self.limit_bytes) {
            self.json.truncate(before);
            self.is_full = true;
            return ControlFlow::Break(());
        }
        self.last = place;
        ControlFlow::Continue(())
    }

    /// Returns the answer: the items, and the place of the last one if there are more.
    #[must_use]
    pub fn into_json(mut self) -> Vec<u8> {
        let next =
            if self.is_full { format!(",\"next\":\"{}\"", self.last) } else { String::new() };
        self.json.extend_from_slice(format!("]{next}}}").as_bytes());
        self.json
    }
}
