//! A page of a list, as JSON.

use std::ops::ControlFlow;

use serde::Serialize;

use super::place::Place;

/// Bytes of the items of a page where the caller sets no limit.
const PAGE_BYTES: usize = 65_536;

/// Bytes of the items of a page at most, if there is more than one. An item has some 150 KiB at most,
/// as paths and names are limited, and a message some 32 MiB.
pub const PAGE_BYTES_MAX: usize = 262_144;

/// A page of a list.
#[derive(Debug)]
pub struct Page {
    items: Vec<u8>,
    limit_bytes: usize,
    last: Place,
    is_full: bool,
}

impl Page {
    /// Makes an empty page with a limit for its items.
    #[must_use]
    pub fn new(limit_bytes: Option<u64>) -> Self {
        let limit = limit_bytes.map_or(PAGE_BYTES, |it| usize::try_from(it).unwrap_or(usize::MAX));
        let limit_bytes = limit.min(PAGE_BYTES_MAX);
        Self { items: Vec::new(), limit_bytes, last: Place::default(), is_full: false }
    }

    /// Adds an item with its place, which is behind all others. Breaks once an item does not fit;
    /// the first one always does, so that each page leads on.
    pub fn push(&mut self, place: Place, item: &impl Serialize) -> ControlFlow<()> {
        let before = self.items.len();
        if before > 0 {
            self.items.push(b',');
        }
        let written = serde_json::to_writer(&mut self.items, item);
        if written.is_err() || (before > 0 && self.items.len() > self.limit_bytes) {
            self.items.truncate(before);
            self.is_full = true;
            return ControlFlow::Break(());
        }
        self.last = place;
        ControlFlow::Continue(())
    }

    /// Returns the answer: the items, and the place of the last one if there are more.
    #[must_use]
    pub fn into_json(self) -> Vec<u8> {
        let next =
            if self.is_full { format!(",\"next\":\"{}\"", self.last) } else { String::new() };
        [b"{\"items\":[", self.items.as_slice(), b"]", next.as_bytes(), b"}"].concat()
    }
}
