//! Long lists: read all at once, but written item by item, each as it is made. Ten thousand leases
//! are never in memory as a document, which would cost more than writing them.

use std::fmt;
use std::rc::Rc;

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Items of a long list.
#[derive(Clone)]
pub enum Items<'a, T> {
    /// Items that were read.
    Read(Vec<T>),
    /// Items that are produced each time they are visited.
    Lazy(Producer<'a, T>),
}

/// Passes every item to a visitor, in an order that is stable while nothing changes.
type Producer<'a, T> = Rc<dyn Fn(&mut dyn FnMut(T)) + 'a>;

impl<'a, T> Items<'a, T> {
    /// Makes a list of the items that `show` passes to its visitor.
    pub fn lazy(show: impl Fn(&mut dyn FnMut(T)) + 'a) -> Self {
        Self::Lazy(Rc::new(show))
    }

    /// Visits each item.
    pub fn for_each(&self, mut look: impl FnMut(&T)) {
        match self {
            Self::Read(items) => items.iter().for_each(look),
            Self::Lazy(show) => show(&mut |item| look(&item)),
        }
    }

    /// Changes each item.
    pub fn change(&mut self, change: impl Fn(&mut T) + 'a)
    where
        T: 'a,
    {
        match self {
            Self::Read(items) => items.iter_mut().for_each(change),
            Self::Lazy(show) => {
                let show = Rc::clone(show);
                *self = Self::lazy(move |sink| {
                    show(&mut |mut item| {
                        change(&mut item);
                        sink(item);
                    });
                });
            }
        }
    }

    /// Returns all items.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        match self {
            Self::Read(items) => items,
            Self::Lazy(show) => {
                let mut items = Vec::new();
                show(&mut |item| items.push(item));
                items
            }
        }
    }
}

impl<T: Serialize> Serialize for Items<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut written = Ok(());
        self.for_each(|item| {
            if written.is_ok() {
                written = list.serialize_element(item);
            }
        });
        written?;
        list.end()
    }
}

impl<T: fmt::Debug> fmt::Debug for Items<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = formatter.debug_list();
        self.for_each(|item| {
            list.entry(item);
        });
        list.finish()
    }
}

#[cfg(test)]
mod tests;
