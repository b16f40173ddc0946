//! The drop-ins give libvirt's units what our own units have.

use std::collections::BTreeMap;

use tests::harness::Program;
use tests::machine::{property, service};

use super::{be_libvirts_host, package, packaged};
use crate::libvirt::BOTH;

super::with_packages! {
    drop_ins_have_the_settings_of_our_units,
}

/// Settings that stay libvirt's, or that `systemctl show` has no property of.
const OTHERS: [&str; 3] = ["Environment", "EnvironmentFile", "ExecStart"];

fn drop_ins_have_the_settings_of_our_units() {
    let ours = BOTH.map(settings);
    be_libvirts_host();
    let libvirts = BOTH.map(settings);
    for program in BOTH {
        packaged("dpkg", &["--install", &package(program)]);
    }
    assert_eq!(BOTH.map(settings), ours);
    assert_ne!(libvirts, ours);
}

/// The values that a service has for the keys in our unit's section.
fn settings(program: Program) -> BTreeMap<String, String> {
    let unit = match program {
        Program::Virtlogd => include_str!("../../../../systemd/virtlogd.service"),
        Program::Virtlockd => include_str!("../../../../systemd/virtlockd.service"),
    };
    let section = unit.split("[Service]").nth(1).and_then(|rest| rest.split("[Install]").next());
    let lines = section.expect("a section").lines();
    let keys = lines.filter_map(|line| Some(line.split_once('=')?.0));
    let is_key = |key: &&str| key.chars().all(char::is_alphanumeric) && !OTHERS.contains(key);
    let values = keys.filter(is_key).map(|key| {
        let name = key.replace("Sec", "USec");
        let name = if key.starts_with("Exec") { key } else { &name };
        let value = property(&service(program), name);
        (key.to_owned(), value.split(" ; ignore_errors").next().unwrap_or_default().to_owned())
    });
    let values: BTreeMap<_, _> = values.collect();
    assert!(values.len() > 30, "{values:?}");
    values
}
