use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn answer_of(script: &str) -> Answer {
    answer_with(script, || Ok(()))
}

fn answer_with(
    script: &str,
    check_configuration: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> Answer {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("daemon");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let target = Target::find(vec![path.into(), "-d".into()], None, None).unwrap();
    let document = b"document".to_vec();
    let check_configuration = Arc::new(check_configuration);
    let started = Check::start(target, document, "virtlogd", check_configuration);
    let (check, answered) = started.unwrap();
    assert_eq!(File::from(answered).read(&mut [0]).unwrap(), 0);
    check.answer()
}

#[test]
fn a_daemon_of_ours_reads_the_document_and_answers() {
    let script = r#"[ "$1 $2 $(cat)" = "--check-handover -d document" ] && echo "$OK""#;
    assert_eq!(answer_of(&script.replace("$OK", answer_text(Ok(())).trim())), Answer::Ours);
    let no = answer_text(Err("line 3".into()));
    assert_eq!(answer_of(&format!("echo '{}'", no.trim())), Answer::No("line 3".into()));
}

#[test]
fn libvirts_show_by_their_version() {
    let script = |name| {
        format!(
            r#"case $1 in
            --version) echo "$0 (libvirt) 9.0.0" ;;
            --help) echo "/run/libvirt/{name}-sock" >&2 ;;
            *) exit 1 ;;
            esac"#
        )
    };
    assert_eq!(answer_of(&script("virtlogd")), Answer::Libvirts(Ok(())));
    let broken = answer_with(&script("virtlogd"), || Err("line 3".into()));
    assert_eq!(broken, Answer::Libvirts(Err("line 3".into())));
    assert!(matches!(answer_of(&script("virtlockd")), Answer::No(_)), "the other one");
}

#[test]
fn a_daemon_of_ours_that_cannot_answer_is_not_taken_for_libvirts() {
    let script = r#"case $1 in
        --version) echo "$0 (libvirt) 9.0.0"; echo "virtlogd-rs 0.1.0" ;;
        --help) echo "/run/libvirt/virtlogd-sock" ;;
        *) exit 127 ;;
        esac"#;
    assert_eq!(answer_of(script), Answer::No("it gave no answer; try again".into()));
}

#[test]
fn whatever_else_ends_at_once_is_neither() {
    for script in ["exit 1", "exit 0", "echo 1.2"] {
        assert!(matches!(answer_of(script), Answer::No(_)), "{script}");
    }
}
