//! The AppArmor profiles, as the parser reads them: no kernel with AppArmor is needed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::harness::left_out;

const PARSER: &str = "apparmor_parser";

const NAMES: [&str; 2] = ["virtlogd", "virtlockd"];

#[test]
fn profiles_are_understood() {
    for name in NAMES {
        let Some(output) = parsed(&source(name)) else { return };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("rror"), "{name}: {said}");
    }
}

#[test]
fn a_profile_with_a_mistake_is_not() {
    let mistaken = source("virtlogd").replace("capability fowner,", "capability fowner");
    let Some(output) = parsed(&mistaken) else { return };
    assert!(!output.status.success(), "{output:?}");
}

/// What guests' profiles have to allow, in the place that libvirt has for it.
#[test]
fn what_is_added_to_profiles_of_guests_is_understood() {
    let rules = read("libvirt-qemu");
    let Some(output) = parsed(&format!("profile guest {{\n{rules}\n}}\n")) else { return };
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_daemon_executes_itself_alone() {
    for name in NAMES {
        let profile = source(name);
        let is_allowed = |rule: &&str| !rule.contains("deny ") && permissions(rule).contains('x');
        let rules: Vec<_> = profile.lines().map(str::trim).filter(is_allowed).collect();
        assert_eq!(rules, [format!("/usr/sbin/{name} mrix,")]);
    }
}

/// A profile that knows less than the unit gives would stop what is meant to work.
#[test]
fn capabilities_of_the_units_are_in_the_profiles() {
    for name in NAMES {
        let unit = fs::read_to_string(directory().join(format!("../{name}.service"))).unwrap();
        let given = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=CAP_"));
        let profile = source(name);
        for capability in given.unwrap().split(" CAP_") {
            let rule = format!("capability {},", capability.to_lowercase());
            assert!(profile.contains(&rule), "{name}: {rule}");
        }
    }
}

/// The permissions of a rule about a path.
fn permissions(rule: &str) -> &str {
    let is_path = rule.starts_with(['/', '@']);
    let last = rule.trim_end_matches(',').rsplit(' ').next().unwrap_or_default();
    if is_path { last } else { "" }
}

fn source(name: &str) -> String {
    read(&format!("usr.sbin.{name}"))
}

fn read(name: &str) -> String {
    let path = directory().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/apparmor")
}

/// What the parser makes of a profile, without loading it; `None` where there is no parser.
fn parsed(profile: &str) -> Option<Output> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut parser = Command::new(PARSER);
    parser.args(["--skip-kernel-load", "--skip-cache"]).env("PATH", format!("{path}:/usr/sbin"));
    let pipe = || Stdio::piped();
    let started = parser.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn();
    let Ok(mut child) = started else {
        left_out("a check of the AppArmor profiles", "apparmor_parser is not installed");
        return None;
    };
    child.stdin.take().unwrap().write_all(profile.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}
