//! Filters: log levels by category.

use std::fmt;

use super::{Invalid, Level};

/// Filters in one setting. Ours; the search through them ends at the first match.
pub const FILTERS_MAX: usize = 1024;

/// An ordered list of filters; the first one that matches a category decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<Filter>);

/// A filter: the lowest level of matching categories that is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    level: Level,
    /// Pattern with `*` and `?`. It is always enclosed in stars, in addition to any configured.
    pattern: String,
}

impl Filters {
    /// Parses items `LEVEL:MATCH` separated by spaces. libvirt's oddities are kept: one plus sign
    /// before the match is dropped, and so is a second colon with what follows.
    ///
    /// # Errors
    /// The first invalid item, or more than [`FILTERS_MAX`] items.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let mut filters = Vec::new();
        for item in text.split(' ').filter(|item| !item.is_empty()) {
            if filters.len() == FILTERS_MAX {
                return Err(Invalid::TooMany { what: "log filters", max: FILTERS_MAX });
            }
            filters.push(Filter::parse(item)?);
        }
        Ok(Self(filters))
    }

    /// Returns the lowest logged level of `category`, if a filter matches.
    #[must_use]
    pub fn level(&self, category: &str) -> Option<Level> {
        let filter = self.0.iter().find(|filter| matches(&filter.pattern, category))?;
        Some(filter.level)
    }

    /// Returns the lowest of all levels.
    pub(super) fn level_min(&self) -> Option<Level> {
        self.0.iter().map(|filter| filter.level).min()
    }

    /// Returns the filters as items that can be parsed again: `1:*rpc*`.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
        self.0.iter().map(Filter::to_string).collect()
    }

    /// Returns the number of filters.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// compat: a blank follows each filter, the last one too (libvirt 9.0.0).
impl fmt::Display for Filters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|filter| write!(formatter, "{filter} "))
    }
}

impl Filter {
    fn parse(item: &str) -> Result<Self, Invalid> {
        let mut parts = item.split(':');
        let (Some(level), Some(pattern)) = (parts.next(), parts.next()) else {
            return Err(Invalid::FilterFormat(item.into()));
        };
        let level = Level::from_item(level)
            .ok_or_else(|| Invalid::FilterLevel { level: level.into(), item: item.into() })?;
        let inner = pattern.strip_prefix('+').unwrap_or(pattern);
        if inner.is_empty() {
            return Err(Invalid::FilterMatch(pattern.into()));
        }
        Ok(Self { level, pattern: format!("*{inner}*") })
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.level.number(), self.pattern)
    }
}

/// Returns whether `text` matches `pattern`, in which `?` is any character and `*` any number of
/// them.
///
/// On a mismatch only the latest star takes one more character: an earlier star could gain nothing
/// by it. So the work is bounded by the product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut retry = None;
    loop {
        let (rest_of_pattern, rest_of_text) = (pattern.clone(), text.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = rest_of_text;
                retry = Some((pattern.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(expected), Some(found)) if expected == found => {}
            (None | Some(_), Some(_)) => {
                let Some((after_star, mut longer)) = retry else {
                    return false;
                };
                longer.next();
                (pattern, text) = (after_star.clone(), longer.clone());
                retry = Some((after_star, longer));
            }
            (Some(_), None) => return rest_of_pattern.as_str().chars().all(|left| left == '*'),
        }
    }
}

#[cfg(test)]
mod tests;
