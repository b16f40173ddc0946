//! Settings in `virtlockd.toml`: what happens when a lease on shared storage is not proved any more,
//! and lease times that no kernel tells.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use common::config::{Error, Glob, Toml, TomlSpanned, TomlValue};
use common::sys::process;
use serde::Deserialize;

use crate::proof::rule::{LEASE_MIN_TO_END_MS, Ms};

/// Rules of one file. Each is compared with a lease on shared storage.
const RULES_MAX: usize = 256;

/// Mounts of one file.
const MOUNTS_MAX: usize = 64;

/// Bytes of one pattern.
const PATTERN_BYTES_MAX: usize = 255;

/// Bytes of a mount point.
const POINT_BYTES_MAX: usize = 2000;

/// Lease times in seconds.
const LEASES_S: RangeInclusive<u64> = LEASE_MIN_TO_END_MS / 1000..=3600;

/// What happens when a lease is not proved any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OnLostLease {
    /// It is logged.
    #[default]
    Log,
    /// It is logged, and before that its guests are ended.
    End,
}

/// The settings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    mounts: Vec<(PathBuf, Ms)>,
}

#[derive(Debug, Clone)]
struct Rule {
    path: Option<Glob>,
    lockspace: Option<Glob>,
    on_lost_lease: OnLostLease,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    rule: Vec<TomlSpanned<RuleTable>>,
    mount: Vec<TomlSpanned<MountTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RuleTable {
    path: Option<TomlValue>,
    lockspace: Option<TomlValue>,
    on_lost_lease: Option<TomlValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MountTable {
    path: Option<TomlValue>,
    lease_s: Option<TomlValue>,
}

impl Policy {
    /// Reads the settings of a file.
    ///
    /// # Errors
    /// [`Error::Toml`].
    pub(crate) fn read(toml: &Toml<'_>) -> Result<Self, Error> {
        let Tables { rule, mount } = toml.read()?;
        if let Some(surplus) = rule.get(RULES_MAX) {
            return Err(
                toml.error(surplus.span(), &format!("there are more than {RULES_MAX} rules"))
            );
        }
        if let Some(surplus) = mount.get(MOUNTS_MAX) {
            let what = format!("there are more than {MOUNTS_MAX} mounts");
            return Err(toml.error(surplus.span(), &what));
        }
        Ok(Self {
            rules: rule.iter().map(|table| read_rule(toml, table)).collect::<Result<_, _>>()?,
            mounts: mount.iter().map(|table| read_mount(toml, table)).collect::<Result<_, _>>()?,
        })
    }

    /// Returns what happens when a lease is lost: the first rule that matches says so.
    pub(crate) fn on_lost_lease(&self, lockspace: &[u8], path: &[u8]) -> OnLostLease {
        let matches = |glob: &Option<Glob>, bytes| glob.as_ref().is_none_or(|it| it.matches(bytes));
        let mut rules = self.rules.iter();
        let rule =
            rules.find(|rule| matches(&rule.path, path) && matches(&rule.lockspace, lockspace));
        rule.map(|rule| rule.on_lost_lease).unwrap_or_default()
    }

    /// Returns the lease time of a mount, if it is set.
    pub(crate) fn lease_ms(&self, point: &Path) -> Option<Ms> {
        self.mounts.iter().find(|(path, _)| path == point).map(|(_, lease)| *lease)
    }
}

fn read_rule(toml: &Toml<'_>, table: &TomlSpanned<RuleTable>) -> Result<Rule, Error> {
    let RuleTable { path, lockspace, on_lost_lease } = table.get_ref();
    if path.is_none() && lockspace.is_none() {
        return Err(toml.error(table.span(), "a rule needs 'path', 'lockspace', or both"));
    }
    let Some(value) = on_lost_lease else {
        return Err(toml.error(table.span(), "a rule needs 'on_lost_lease'"));
    };
    let on_lost_lease = match toml.string("on_lost_lease", Some(value), PATTERN_BYTES_MAX)? {
        Some("log") => OnLostLease::Log,
        Some("end") if can_signal_guests() => OnLostLease::End,
        Some("end") => {
            let what = "'on_lost_lease': \"end\" needs the capability CAP_KILL, without which \
                        guests cannot be signalled";
            return Err(toml.error(value.span(), what));
        }
        _ => {
            let what = "'on_lost_lease' has to be \"log\" or \"end\"";
            return Err(toml.error(value.span(), what));
        }
    };
    Ok(Rule {
        path: glob(toml, "path", path.as_ref())?,
        lockspace: glob(toml, "lockspace", lockspace.as_ref())?,
        on_lost_lease,
    })
}

fn read_mount(toml: &Toml<'_>, table: &TomlSpanned<MountTable>) -> Result<(PathBuf, Ms), Error> {
    let MountTable { path, lease_s } = table.get_ref();
    let point = toml.string("path", path.as_ref(), POINT_BYTES_MAX)?;
    let lease_s = toml.number("lease_s", lease_s.as_ref(), &LEASES_S)?;
    match (point, lease_s) {
        (Some(point), Some(lease_s)) if point.starts_with('/') => {
            Ok((point.into(), lease_s * 1000))
        }
        (Some(_), Some(_)) => Err(toml.error(table.span(), "'path' has to begin with '/'")),
        _ => Err(toml.error(table.span(), "a mount needs 'path' and 'lease_s'")),
    }
}

/// Returns whether guests can be signalled: those of a user's own daemon are that user's.
fn can_signal_guests() -> bool {
    !process::is_privileged() || process::may_signal_others()
}

fn glob(toml: &Toml<'_>, key: &str, value: Option<&TomlValue>) -> Result<Option<Glob>, Error> {
    let (Some(value), Some(text)) = (value, toml.string(key, value, PATTERN_BYTES_MAX)?) else {
        return Ok(None);
    };
    Glob::parse(text)
        .map(Some)
        .map_err(|what| toml.error(value.span(), &format!("'{key}': {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Policy, String> {
        let toml = Toml::new(Path::new("x.toml"), text.as_bytes()).unwrap();
        Policy::read(&toml).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_rule_that_matches_says_what_happens() {
        let policy = read(
            "[[rule]]\npath = '/nfs/scratch/**'\non_lost_lease = 'log'\n\
             [[rule]]\nlockspace = '/nfs/*'\non_lost_lease = 'end'\n\
             [[mount]]\npath = '/gluster'\nlease_s = 43\n",
        )
        .unwrap();
        let of = |space: &str, path: &str| policy.on_lost_lease(space.as_bytes(), path.as_bytes());
        assert_eq!(of("/nfs/lockd", "/nfs/lockd/5f"), OnLostLease::End);
        assert_eq!(of("/nfs/lockd", "/nfs/scratch/a"), OnLostLease::Log);
        assert_eq!(of("", "/nfs/a"), OnLostLease::Log);
        assert_eq!(policy.lease_ms(Path::new("/gluster")), Some(43_000));
        assert_eq!(policy.lease_ms(Path::new("/nfs")), None);
    }

    #[test]
    fn without_rules_it_is_logged() {
        assert_eq!(read("").unwrap().on_lost_lease(b"", b"/a"), OnLostLease::Log);
    }

    #[test]
    fn errors_name_the_place_the_key_and_what_is_allowed() {
        for (text, error) in [
            ("[[rule]]\non_lost_lease = 'end'\n", "1:1: a rule needs 'path', 'lockspace', or both"),
            ("[[rule]]\npath = '/a'\n", "1:1: a rule needs 'on_lost_lease'"),
            (
                "[[rule]]\npath = '/a'\non_lost_lease = 'kill'\n",
                "3:17: 'on_lost_lease' has to be \"log\" or \"end\"",
            ),
            ("[[mount]]\npath = '/a'\n", "1:1: a mount needs 'path' and 'lease_s'"),
            ("[[mount]]\npath = 'a'\nlease_s = 9\n", "1:1: 'path' has to begin with '/'"),
            (
                "[[mount]]\npath = '/a'\nlease_s = 6\n",
                "3:11: 'lease_s' has to be an integer in range 7:3600",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), format!("x.toml:{error}"), "{text}");
        }
        assert!(read("[[rule]]\nwhat = 1\n").unwrap_err().contains("unknown field `what`"));
    }
}
