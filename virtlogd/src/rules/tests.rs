use common::config::Toml;

use super::*;
use crate::guest::rate_cap::RateLimit;

const DEFAULTS: Limits = Limits { size_bytes_max: 2_097_152, backups_max: 3 };

fn read(text: &str) -> Result<Rules, String> {
    let toml = Toml::new(Path::new("x.toml"), text.as_bytes()).unwrap();
    Rules::read(&toml, DEFAULTS).map_err(|error| error.to_string())
}

fn limits(size_bytes_max: u64, backups_max: u64) -> Limits {
    Limits { size_bytes_max, backups_max }
}

#[test]
fn the_first_rule_that_matches_applies_whole() {
    let rules = read(
        "[[rule]]\ndomain = 'web*'\npath = '/logs/*'\nmax_size = '1 MiB'\n\
         [[rule]]\ndomain = 'web1'\nmax_backups = 9\n\
         [[rule]]\npath = '/logs/*'\nmax_size = 0\nmax_backups = 0\n",
    )
    .unwrap();
    let of = |path: &str, domain: &str| rules.limits(Path::new(path), domain.as_bytes());
    assert_eq!(of("/logs/a", "web1"), limits(1_048_576, 3));
    assert_eq!(of("/else/a", "web1"), limits(2_097_152, 9));
    assert_eq!(of("/logs/a", "db"), limits(0, 0));
    assert_eq!(of("/else/a", "db"), DEFAULTS);
}

#[test]
fn without_rules_the_defaults_hold() {
    for text in ["", "# nothing\n", "rule = []\n"] {
        let rules = read(text).unwrap();
        assert_eq!(rules.limits(Path::new("a"), b""), DEFAULTS);
        assert!(rules.rules.is_empty() && rules.directories.is_empty());
    }
}

#[test]
fn without_a_guest_the_most_older_parts_count_that_there_may_be() {
    let rules = read(
        "[[rule]]\ndomain = 'web*'\nmax_backups = 9\n\
         [[rule]]\npath = '/few/*'\nmax_backups = 1\n\
         [[rule]]\npath = '/few/*'\nmax_backups = 30\n",
    )
    .unwrap();
    assert_eq!(rules.backups_max(Path::new("/few/a.log")), 9);
    assert_eq!(rules.backups_max(Path::new("/a.log")), 9);
    let rules = read("[[rule]]\npath = '/few/*'\nmax_backups = 1\n").unwrap();
    assert_eq!(rules.backups_max(Path::new("/few/a.log")), 1);
    assert_eq!(rules.backups_max(Path::new("/a.log")), 3);
}

#[test]
fn errors_name_the_place_the_key_and_what_is_allowed() {
    for (text, error) in [
        ("[[rule]]\nmax_size = 5\n", "1:1: a rule needs 'domain', 'path', or both"),
        ("[[rule]]\ndomain = ''\n", "2:10: 'domain' has to be a string of 1 to 255 bytes"),
        (
            "[[rule]]\npath = '/a/[b]'\n",
            "2:8: 'path': '[' has no meaning in a pattern; use '?' for it",
        ),
        (
            "[[rule]]\npath = '*'\nmax_backups = 33\n",
            "3:15: 'max_backups' has to be an integer in range 0:32",
        ),
        (
            "[[rule]]\npath = '*'\nmax_size = '2 PiB'\n",
            "3:12: 'max_size' has to be a number of bytes, or a string such as \"10 MiB\" with \
             one of the units B, KiB, MiB, GiB and TiB",
        ),
        (
            "[[rule]]\npath = '*'\nmax_sice = 1\n",
            "3:1: unknown field `max_sice`, expected one of `domain`, `path`, `max_size`, \
             `max_backups`, `rate`, `burst`",
        ),
        ("[[rules]]\n", "1:3: unknown field `rules`, expected `rule` or `directory`"),
        ("[[directory]]\nbudget = 5\n", "1:1: a directory needs 'path'"),
        ("[[directory]]\npath = '/a'\n", "1:1: a directory needs 'budget', 'free_min', or both"),
        ("[[directory]]\npath = 'a'\nbudget = 5\n", "2:8: 'path' has to begin with '/'"),
        (
            "[[directory]]\npath = '/a'\nbudget = 0\n",
            "3:10: 'budget' has to be in range 1:1152921504606846976 bytes",
        ),
    ] {
        assert_eq!(read(text).unwrap_err(), format!("x.toml:{error}"), "{text}");
    }
    for text in ["rule = 5", "[rule]", "rule = [5]"] {
        let error = read(text).unwrap_err();
        assert!(error.starts_with("x.toml:1:"), "{error}");
    }
}

#[test]
fn there_is_a_limit_of_rules() {
    let rule = "[[rule]]\npath = '*'\n";
    read(&rule.repeat(256)).unwrap();
    let error = read(&rule.repeat(257)).unwrap_err();
    assert_eq!(error, "x.toml:513:1: there are more than 256 rules");
    let directory = "[[directory]]\npath = '/a'\nbudget = 1\n";
    read(&directory.repeat(64)).unwrap();
    let error = read(&directory.repeat(65)).unwrap_err();
    assert_eq!(error, "x.toml:193:1: there are more than 64 directories");
}

#[test]
fn the_example_of_the_documentation_is_understood() {
    let page = include_str!("../../README.md");
    let (_, example) = page.split_once("```toml\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let rules = read(example).unwrap();
    let web = Path::new("/var/log/libvirt/qemu/web1.log");
    assert_eq!(rules.limits(web, b"web1"), limits(10 << 20, 5));
    let nova = Path::new("/var/lib/nova/instances/7/console.log");
    assert_eq!(rules.limits(nova, b"web1"), limits(65_536, 3));
    assert_eq!(rules.directories.len(), 1);
}

#[test]
fn a_rate_comes_with_a_burst() {
    let rule = |keys: &str| {
        let rules = read(&format!("[[rule]]\npath = '*'\n{keys}\n")).unwrap();
        rules.settings(Path::new("a"), b"").rate
    };
    let limit = |bytes_per_s, burst_bytes| Some(RateLimit { bytes_per_s, burst_bytes });
    assert_eq!(rule(""), None);
    assert_eq!(rule("rate = '1 MiB'"), limit(1 << 20, 8 << 20));
    assert_eq!(rule("rate = '1 MiB'\nburst = '1 MiB'"), limit(1 << 20, 1 << 20));
}

#[test]
fn a_directory_has_a_budget_and_caps_its_logs_when_it_is_low() {
    let rules = read(
        "[[directory]]\npath = '/logs'\nbudget = '20 GiB'\nfree_min = '5 GiB'\n\
         [[directory]]\npath = '/other/'\nbudget = 7\n",
    )
    .unwrap();
    let [logs, other] = &rules.directories[..] else { panic!() };
    assert_eq!(logs.budget.path, Path::new("/logs"));
    assert_eq!(
        (logs.budget.bytes_max, logs.budget.free_bytes_min),
        (Some(20 << 30), Some(5 << 30))
    );
    assert_eq!((other.budget.bytes_max, other.budget.free_bytes_min), (Some(7), None));
    let is_capped = |path: &str| rules.settings(Path::new(path), b"").cap().is_some();
    assert!(is_capped("/logs/a.log"));
    assert!(["/logs/a/b.log", "/logs", "/other/a.log"].iter().all(|path| !is_capped(path)));
}
