//! How often each event met each fault.

use std::collections::BTreeMap;
use std::fmt;

use super::step::{Event, Fault};

/// Counts of pairs; `None` is an event without any fault.
#[derive(Debug, Default, Clone)]
pub(super) struct Meetings(BTreeMap<(Event, Option<Fault>), usize>);

impl Meetings {
    /// One more.
    pub(super) fn add(&mut self, event: Event, fault: Option<Fault>) {
        *self.0.entry((event, fault)).or_default() += 1;
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add_all(&mut self, others: &Self) {
        others.0.iter().for_each(|(pair, count)| *self.0.entry(*pair).or_default() += count);
    }

    /// As a line of text for [`Self::parse`].
    pub(super) fn line(event: Event, fault: Option<Fault>) -> String {
        format!("{} {}", event.name(), fault.map_or("none", Fault::name))
    }

    /// Counts what such a line says.
    pub(super) fn parse(&mut self, line: &str) {
        if let Some((event, fault)) = line.split_once(' ')
            && let Some(event) = Event::named(event)
        {
            self.add(event, Fault::named(fault));
        }
    }

    /// The smallest count of any pair.
    pub(super) fn fewest(&self) -> usize {
        let pairs =
            Event::ALL.iter().flat_map(|&event| Fault::ALL.iter().map(move |&f| (event, Some(f))));
        pairs.map(|pair| self.0.get(&pair).copied().unwrap_or(0)).min().unwrap_or(0)
    }
}

impl fmt::Display for Meetings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<18}", "")?;
        Event::ALL.iter().try_for_each(|event| write!(formatter, "{:>17}", event.name()))?;
        writeln!(formatter)?;
        let faults = Fault::ALL.iter().copied().map(Some).chain([None]);
        for fault in faults {
            write!(formatter, "{:<18}", fault.map_or("no fault", Fault::name))?;
            for &event in Event::ALL {
                let count = self.0.get(&(event, fault)).copied().unwrap_or(0);
                write!(formatter, "{count:>17}")?;
            }
            writeln!(formatter)?;
        }
        Ok(())
    }
}
