//! The corpus of `tests/fuzz`, replayed: what fuzzing has found stays mended, and the targets hold
//! on the ordinary build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use targets::Target;
use tests::harness::left_out;

#[allow(dead_code, reason = "some is for the change of inputs alone")]
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

/// Names the target that this process replays in a confinement.
const TARGET: &str = "VIRT_TESTS_FUZZ_TARGET";

#[test]
fn every_target_has_a_corpus_and_holds_on_it() {
    for target in &targets::ALL {
        let files = corpus(target);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        match target.is_json {
            true => replay_confined(target),
            false => files.iter().for_each(|file| replay(target, file)),
        }
    }
}

#[test]
fn no_corpus_is_without_a_target() {
    for entry in fs::read_dir(Path::new(FOLDER).join("corpus")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(targets::ALL.iter().any(|target| name == target.name), "{}", name.display());
    }
}

/// Started by the test above, in namespaces of its own: the target opens paths of its input.
#[test]
#[ignore = "a part of another test"]
fn confined() {
    let name = std::env::var(TARGET).unwrap();
    let target = targets::ALL.iter().find(|target| target.name == name).unwrap();
    corpus(target).iter().for_each(|file| replay(target, file));
}

fn replay_confined(target: &Target) {
    let scratch = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = Command::new(Path::new(FOLDER).join("confined"));
        command.arg(scratch.path());
        command
    };
    let namespaces = command().arg("true").output().unwrap();
    if !namespaces.status.success() {
        let reason = String::from_utf8_lossy(&namespaces.stderr).into_owned();
        return left_out(&format!("the corpus of {}", target.name), &reason);
    }
    let mut replay = command();
    replay.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", "confined"]);
    let output = replay.env(TARGET, target.name).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn corpus(target: &Target) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(FOLDER).join("corpus").join(target.name)).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Shown when the input fails: the test's output is kept back until then.
fn replay(target: &Target, file: &Path) {
    println!("tests/fuzz/run {} {}", target.name, file.display());
    (target.run)(&fs::read(file).unwrap());
}
