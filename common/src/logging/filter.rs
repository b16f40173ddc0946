//! Which messages are logged: levels by category.

use std::fmt;

use super::{Invalid, Level};

/// Filters in one setting. Ours; the search through them ends at the first match.
pub const FILTERS_MAX: usize = 1024;

/// An ordered list of filters; the first one that matches a category decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<Filter>);

/// One filter: the least level that messages of matching categories must have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    level: Level,
    /// With `*` and `?`, always in stars of its own, also when it was written with some.
    pattern: String,
}

impl Filters {
    /// Reads items `LEVEL:MATCH` separated by spaces. libvirt's oddities are kept: one plus sign
    /// before the match is dropped, and so is what follows a second colon.
    ///
    /// # Errors
    /// The first item that is wrong, or that there are more than [`FILTERS_MAX`].
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

    /// The least level that messages of `category` must have, if a filter says so.
    #[must_use]
    pub fn level(&self, category: &str) -> Option<Level> {
        let filter = self.0.iter().find(|filter| matches(&filter.pattern, category))?;
        Some(filter.level)
    }

    /// The least of all levels.
    pub(super) fn level_min(&self) -> Option<Level> {
        self.0.iter().map(|filter| filter.level).min()
    }

    /// The filters one by one, as they are read back: `1:*rpc*`.
    #[must_use]
    pub fn items(&self) -> Vec<String> {
        self.0.iter().map(Filter::to_string).collect()
    }

    /// How many there are.
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

/// Whether `text` fits `pattern`, in which `?` is any character and `*` any number of them.
///
/// On a mismatch only the latest star has to take one character more: an earlier one could gain
/// nothing by it. So the work is bounded by the product of both lengths.
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filters_read_back_as_libvirt_writes_them() {
        let cases = [
            ("", ""),
            ("   ", ""),
            ("1:rpc", "1:*rpc* "),
            ("1:rpc 3:util.json 4:event", "1:*rpc* 3:*util.json* 4:*event* "),
            ("  1:rpc   1:rpc ", "1:*rpc* 1:*rpc* "),
            ("1:*rpc*", "1:**rpc** "),
            ("01:a +2:b", "1:*a* 2:*b* "),
            ("1:+a 1:++b", "1:*a* 1:*+b* "),
            ("1:a:b", "1:*a* "),
            ("1:x\t2:y", "1:*x\t2* "),
        ];
        for (text, shown) in cases {
            let filters = Filters::parse(text).unwrap();
            assert_eq!(filters.to_string(), shown, "{text:?}");
            assert_eq!(filters.count(), shown.matches(' ').count(), "{text:?}");
            assert_eq!(filters.items().len(), filters.count());
        }
    }

    #[test]
    fn errors_are_libvirts() {
        let cases = [
            ("garbage", "Malformed format for filter 'garbage'"),
            ("1", "Malformed format for filter '1'"),
            ("1 :a", "Malformed format for filter '1'"),
            (":", "Invalid priority '' for filter ':'"),
            (":x", "Invalid priority '' for filter ':x'"),
            ("5:rpc", "Invalid priority '5' for filter '5:rpc'"),
            ("0:x", "Invalid priority '0' for filter '0:x'"),
            ("-1:a", "Invalid priority '-1' for filter '-1:a'"),
            ("4294967297:a", "Invalid priority '4294967297' for filter '4294967297:a'"),
            ("1:", "Invalid match string ''"),
            ("1:+", "Invalid match string '+'"),
            ("1::b", "Invalid match string ''"),
            ("1:+:", "Invalid match string '+'"),
            ("1:a 9:b x", "Invalid priority '9' for filter '9:b'"),
        ];
        for (text, error) in cases {
            assert_eq!(Filters::parse(text).unwrap_err().to_string(), error, "{text:?}");
        }
    }

    #[test]
    fn the_number_of_filters_is_limited() {
        assert!(Filters::parse(&"1:a ".repeat(FILTERS_MAX)).is_ok());
        let error = Filters::parse(&"1:a ".repeat(FILTERS_MAX + 1)).unwrap_err();
        assert_eq!(error.to_string(), "more than 1024 log filters");
    }

    #[test]
    fn the_first_match_decides() {
        let filters = Filters::parse("4:rpc.net 1:rpc 2:lock*mon").unwrap();
        assert_eq!(filters.level("rpc.netserver"), Some(Level::Error));
        assert_eq!(filters.level("rpc.keepalive"), Some(Level::Debug));
        assert_eq!(filters.level("locking.lock_daemon"), Some(Level::Info));
        assert_eq!(filters.level("util.conf"), None);
        assert_eq!(filters.level_min(), Some(Level::Debug));
        assert_eq!(Filters::default().level_min(), None);
    }

    #[test]
    fn patterns_match_as_the_shell_does() {
        let matching = [
            ("", ""),
            ("*", ""),
            ("**", "a"),
            ("*a*", "a"),
            ("*rpc*", "virt.rpc.x"),
            ("?", "é"),
            ("a?c", "abc"),
            ("*a?c*d", "xxabcabcd"),
            ("*ab*ab", "abaab"),
            ("a*", "a"),
        ];
        for (pattern, text) in matching {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        let differing =
            [("", "a"), ("a", ""), ("?", ""), ("*?", ""), ("a", "ab"), ("ab", "a"), ("*b", "ba")];
        for (pattern, text) in differing {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    /// The definition, spelled out; exponential, so for short patterns only.
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            (['*', rest @ ..], _) => (0..=text.len()).any(|end| fits(rest, &text[end..])),
            (['?', rest @ ..], [_, after @ ..]) => fits(rest, after),
            ([one, rest @ ..], [two, after @ ..]) => one == two && fits(rest, after),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), fits(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9:+* a-c\\PC]{0,40}") {
            if let Ok(filters) = Filters::parse(&text) {
                prop_assert_eq!(filters.items().concat().len() + filters.count(),
                    filters.to_string().len());
            }
        }
    }
}
