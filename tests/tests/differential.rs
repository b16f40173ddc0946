//! Generated sequences of calls to libvirt's daemons and to ours, whose answers, files and locks must be the
//! same but for what a README says: see [`tests::sequences`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use tests::harness::{Subject, Whose, left_out, needs_root};
use tests::sequences::{run, titles};

mod virtlogd {
    use super::*;
    tests::ours! { Virtlogd: answers_as_libvirts_does }
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd: answers_as_libvirts_does }
}

fn answers_as_libvirts_does(subject: Subject) {
    if !needs_root("sequences of calls to both daemons") {
        return;
    }
    let theirs = Subject { whose: Whose::Theirs, ..subject };
    if let Err(reason) = theirs.executable() {
        return left_out("sequences of calls to both daemons", &reason);
    }
    let daemon = subject.executable().expect("checked before the test");
    let player = PathBuf::from(env!("CARGO_BIN_EXE_walker"));
    run(subject.program, &player, daemon.parent().expect("a directory"));
}

/// Each rule that explains a difference is a row of a table of differences.
#[test]
fn every_rule_is_a_row_of_a_readme() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let read = |path: &&str| std::fs::read_to_string(root.join(path)).expect("a README");
    let text: String = ["virtlogd/README.md", "virtlockd/README.md"].iter().map(read).collect();
    let first_cell = |line: &str| Some(line.strip_prefix("| ")?.split(" | ").next()?.to_owned());
    let rows: BTreeSet<_> = text.lines().filter_map(first_cell).collect();
    let missing: Vec<_> = titles().into_iter().filter(|title| !rows.contains(*title)).collect();
    assert!(missing.is_empty(), "no README has these rows: {missing:#?}");
}

/// Whoever starts a player by hand, outside the namespaces that [`run`] makes, has made a mistake.
#[test]
fn a_player_refuses_to_play_where_it_could_do_harm() {
    let player = Command::new(env!("CARGO_BIN_EXE_walker"))
        .args(["sequences", "virtlogd", "1", "1"])
        .output()
        .expect("starting a player");
    assert!(!player.status.success());
    let said = String::from_utf8_lossy(&player.stderr);
    assert!(said.contains("this is no place to play in"), "{said}");
}
