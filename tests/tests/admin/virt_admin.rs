//! The real virt-admin: 80 recorded runs, one after the other, compared text by text.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::harness::{Host, Program, Subject, left_out};

mod virtlogd {
    use super::*;
    tests::both! { Virtlogd: recorded_runs_print_the_same }
}

mod virtlockd {
    use super::*;
    tests::both! { Virtlockd: recorded_runs_print_the_same }
}

/// Runs recorded for each daemon; the last one is made when the daemon has ended.
const RUNS: usize = 80;

/// The run whose output is different on purpose: C knows nothing of a client that never called.
const INFO_OF_SILENT_CLIENT: &str = "-34-client-info-";

/// Makes a daemon's `/run` ours and executes a command line: `$1` directory, `$2` command line.
const SCRIPT: &str = r#"mount -n --bind "$1" /run && eval "$2""#;

/// Bytes of a time as virt-admin prints it, up to the zone: `2026-11-22 13:50:16`.
const TIME_BYTES: usize = 19;

fn recorded_runs_print_the_same(subject: Subject) {
    if !Path::new("/usr/bin/virt-admin").exists() {
        return left_out("recorded_runs_print_the_same", "there is no virt-admin");
    }
    let daemon = subject.start();
    let host = daemon.host();
    // Client ids are part of the output, and somebody had been there before the first run.
    drop(daemon.connect_admin());
    let _silent = daemon.connect_main();
    let mut caller = daemon.connect_main();
    caller.call(subject.program.number(), 2, &[0; 8]).expect_err("empty arguments are refused");
    let runs = recordings(subject.program);
    let (last, runs) = runs.split_last().expect("recordings");
    assert_eq!(runs.len() + 1, RUNS);
    for run in runs {
        run.check(subject, &host);
    }
    daemon.stop();
    last.check(subject, &host);
}

/// One run of virt-admin.
struct Run {
    name: String,
    command: String,
    printed: Printed,
}

/// What a run left behind.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    stdout: String,
    stderr: String,
    status: Option<i32>,
}

impl Run {
    fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a recording");
        let (command, rest) = text.split_once("\n--- stdout\n").expect("a command");
        let (stdout, rest) = rest.split_once("--- stderr\n").expect("its output");
        let (stderr, status) = rest.split_once("--- exit\n").expect("its errors");
        let command = command.strip_prefix("$ ").expect("a prompt").to_owned();
        let status = Some(status.trim().parse().expect("an exit status"));
        let stdout = masked(&command, stdout);
        Self {
            name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
            command,
            printed: Printed { stdout, stderr: stderr.to_owned(), status },
        }
    }

    fn check(&self, subject: Subject, host: &Host) {
        let printed = self.repeat(host);
        if subject.is_ours() && self.name.contains(INFO_OF_SILENT_CLIENT) {
            assert!(printed.stdout.contains("unix_user_name : root"), "{printed:?}");
        } else {
            assert_eq!(printed, self.printed, "{}", self.name);
        }
    }

    fn repeat(&self, host: &Host) -> Printed {
        let output = Command::new("unshare")
            .args(["--map-root-user", "--mount", "--propagation", "private"])
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(host.path("run"))
            .arg(&self.command)
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C"), ("TZ", "UTC")])
            .output()
            .expect("running virt-admin");
        Printed {
            stdout: masked(&self.command, &String::from_utf8_lossy(&output.stdout)),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code(),
        }
    }
}

/// All runs of a daemon in their order, which is that of the files' names.
fn recordings(program: Program) -> Vec<Run> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/virt-admin");
    let entries = fs::read_dir(directory).expect("the recordings");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with(program.name())
    });
    paths.sort();
    paths.iter().map(|path| Run::load(path)).collect()
}

/// What a run printed, without what changes from run to run: times, the pid of the test's own
/// connections, and C's order of the servers, for which only the words are compared.
fn masked(command: &str, stdout: &str) -> String {
    if command.ends_with("srv-list") {
        let mut words: Vec<&str> = stdout.split_whitespace().collect();
        words.sort_unstable();
        return words.join(" ");
    }
    let lines: Vec<String> = stdout.lines().map(masked_line).collect();
    lines.join("\n")
}

fn masked_line(line: &str) -> String {
    if let Some((start, "")) = line.split_once("+0000") {
        return format!("{}TIME", &start[..start.len() - TIME_BYTES]);
    }
    match line.split_once(": ") {
        Some((field @ "unix_process_id", _)) => format!("{field}: PID"),
        _ => line.to_owned(),
    }
}
