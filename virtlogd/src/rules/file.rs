//! Tables of `virtlogd.toml`, converted to rules.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::config::{Error, Glob, Toml, TomlSpanned, TomlValue};
use serde::Deserialize;

use super::directory::DirectoryRule;
use super::rule::{LogSettings, Rule};
use crate::cleaner::Budget;
use crate::guest::rate_cap::{RateLimit, TOKENS_BYTES_MIN};
use crate::rotating_file::{BACKUPS_MAX, Limits};

/// Rules of one file. Each is compared with a log that is opened.
const RULES_MAX: usize = 256;

/// Bytes of one pattern.
const PATTERN_BYTES_MAX: usize = 255;

/// Sizes of one log file in bytes; 0 for no limit.
const SIZE_BYTES: RangeInclusive<u64> = 0..=1 << 50;

/// Numbers of older parts.
const BACKUPS: RangeInclusive<u64> = 0..=BACKUPS_MAX;

/// Rates in bytes a second, and bursts in bytes.
const RATES: RangeInclusive<u64> = TOKENS_BYTES_MIN..=1 << 40;

/// Directories of one file.
const DIRECTORIES_MAX: usize = 64;

/// Bytes of a directory's path.
const PATH_BYTES_MAX: usize = 4095;

/// Bytes of a directory's budget, and of its file system's free space.
const BUDGETS: RangeInclusive<u64> = 1..=1 << 60;

/// Seconds in which a burst's bytes come at the rate, unless the burst is given.
const BURST_S: u64 = 8;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tables {
    rule: Vec<TomlSpanned<RuleTable>>,
    directory: Vec<TomlSpanned<DirectoryTable>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RuleTable {
    domain: Option<TomlValue>,
    path: Option<TomlValue>,
    max_size: Option<TomlValue>,
    max_backups: Option<TomlValue>,
    rate: Option<TomlValue>,
    burst: Option<TomlValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DirectoryTable {
    path: Option<TomlValue>,
    budget: Option<TomlValue>,
    free_min: Option<TomlValue>,
}

/// Rules for logs, and for directories.
type All = (Vec<Rule>, Vec<Arc<DirectoryRule>>);

/// Reads the rules of a file. What one of a log does not say is as in `defaults`.
pub(super) fn read(toml: &Toml<'_>, defaults: Limits) -> Result<All, Error> {
    let tables: Tables = toml.read()?;
    if let Some(surplus) = tables.rule.get(RULES_MAX) {
        return Err(toml.error(surplus.span(), &format!("there are more than {RULES_MAX} rules")));
    }
    if let Some(surplus) = tables.directory.get(DIRECTORIES_MAX) {
        let what = format!("there are more than {DIRECTORIES_MAX} directories");
        return Err(toml.error(surplus.span(), &what));
    }
    let rules = tables.rule.iter().map(|table| read_rule(toml, table, defaults));
    let directories = tables.directory.iter().map(|table| read_directory(toml, table));
    Ok((rules.collect::<Result<_, _>>()?, directories.collect::<Result<_, _>>()?))
}

fn read_directory(
    toml: &Toml<'_>,
    table: &TomlSpanned<DirectoryTable>,
) -> Result<Arc<DirectoryRule>, Error> {
    let DirectoryTable { path, budget, free_min } = table.get_ref();
    let Some(path) = directory_path(toml, path.as_ref())? else {
        return Err(toml.error(table.span(), "a directory needs 'path'"));
    };
    if budget.is_none() && free_min.is_none() {
        return Err(toml.error(table.span(), "a directory needs 'budget', 'free_min', or both"));
    }
    Ok(Arc::new(DirectoryRule::new(Budget {
        path,
        bytes_max: toml.size_bytes("budget", budget.as_ref(), &BUDGETS)?,
        free_bytes_min: toml.size_bytes("free_min", free_min.as_ref(), &BUDGETS)?,
    })))
}

fn directory_path(toml: &Toml<'_>, value: Option<&TomlValue>) -> Result<Option<PathBuf>, Error> {
    let (Some(value), Some(text)) = (value, toml.string("path", value, PATH_BYTES_MAX)?) else {
        return Ok(None);
    };
    match Path::new(text) {
        path if path.is_absolute() => Ok(Some(path.into())),
        _ => Err(toml.error(value.span(), "'path' has to begin with '/'")),
    }
}

fn read_rule(
    toml: &Toml<'_>,
    table: &TomlSpanned<RuleTable>,
    defaults: Limits,
) -> Result<Rule, Error> {
    let RuleTable { domain, path, max_size, max_backups, rate, burst } = table.get_ref();
    if domain.is_none() && path.is_none() {
        return Err(toml.error(table.span(), "a rule needs 'domain', 'path', or both"));
    }
    let size_bytes_max = toml.size_bytes("max_size", max_size.as_ref(), &SIZE_BYTES)?;
    let backups_max = toml.number("max_backups", max_backups.as_ref(), &BACKUPS)?;
    Ok(Rule {
        domain: glob(toml, "domain", domain.as_ref())?,
        path: glob(toml, "path", path.as_ref())?,
        settings: LogSettings {
            limits: Limits {
                size_bytes_max: size_bytes_max.unwrap_or(defaults.size_bytes_max),
                backups_max: backups_max.unwrap_or(defaults.backups_max),
            },
            rate: rate_limit(toml, rate.as_ref(), burst.as_ref())?,
            is_low: None,
        },
    })
}

fn rate_limit(
    toml: &Toml<'_>,
    rate: Option<&TomlValue>,
    burst: Option<&TomlValue>,
) -> Result<Option<RateLimit>, Error> {
    let Some(bytes_per_s) = toml.size_bytes("rate", rate, &RATES)? else {
        return match burst {
            Some(burst) => Err(toml.error(burst.span(), "'burst' needs 'rate'")),
            None => Ok(None),
        };
    };
    let bursts = bytes_per_s..=*RATES.end();
    let burst_bytes = toml.size_bytes("burst", burst, &bursts)?;
    let burst_bytes = burst_bytes.unwrap_or(bytes_per_s.saturating_mul(BURST_S));
    Ok(Some(RateLimit { bytes_per_s, burst_bytes }))
}

fn glob(toml: &Toml<'_>, key: &str, value: Option<&TomlValue>) -> Result<Option<Glob>, Error> {
    let (Some(value), Some(text)) = (value, toml.string(key, value, PATTERN_BYTES_MAX)?) else {
        return Ok(None);
    };
    Glob::parse(text)
        .map(Some)
        .map_err(|what| toml.error(value.span(), &format!("'{key}': {what}")))
}
