//! The timers that write metrics for node_exporter's collector.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tests::harness::{Program, eventually};
use tests::machine::{drop_in, enable, journal, property, service, systemctl, systemctl_fails};

tests::on_machine! { Ours: metrics_are_written_every_15_seconds, metrics_are_written_elsewhere }

const BOTH: [Program; 2] = [Program::Virtlogd, Program::Virtlockd];

/// Debian's directory, which is another user's.
const DIRECTORY: &str = "/var/lib/prometheus/node-exporter";

const OTHER_UID: u32 = 64_055;

fn file(program: Program) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{}.prom", program.name()))
}

fn metrics_are_written_every_15_seconds() {
    make_directory(DIRECTORY);
    for program in BOTH {
        enable(program);
        let timer = format!("{}-metrics.timer", program.name());
        assert_eq!(property(&timer, "UnitFileState"), "disabled", "it is the operator's choice");
        systemctl(&["enable", "--now", &timer]);
    }
    let time = |program| fs::metadata(file(program)).and_then(|it| it.modified()).ok();
    let mut first = Vec::new();
    eventually("both are there", || {
        first = BOTH.into_iter().filter_map(time).collect();
        first.len() == BOTH.len()
    });
    let text = fs::read_to_string(file(Program::Virtlogd)).unwrap();
    assert!(text.contains("\nvirtlogd_logs 0\n"), "{text}");
    assert_eq!(fs::metadata(file(Program::Virtlogd)).unwrap().permissions().mode() & 0o777, 0o644);
    eventually("they are there again", || {
        BOTH.into_iter().zip(&first).all(|(it, before)| time(it).is_some_and(|now| now > *before))
    });
    assert!(first.iter().all(|time| *time <= SystemTime::now()));
    for program in BOTH {
        let unit = format!("{}-metrics.service", program.name());
        assert_eq!(journal(&unit), "", "four times a minute there is nothing to say");
        assert_eq!(property(&service(program), "ActiveState"), "active");
    }
}

/// As `systemd/README.md` says.
fn metrics_are_written_elsewhere() {
    enable(Program::Virtlogd);
    let unit = "virtlogd-metrics.service";
    systemctl_fails(&["start", unit]);
    let said = journal(unit);
    let text = "unable to write /var/lib/prometheus/node-exporter/virtlogd.prom: ";
    assert!(said.contains(text), "{said}");
    make_directory("/srv/metrics");
    drop_in(
        unit,
        "[Service]\nReadWritePaths=/srv/metrics\nExecStart=\n\
         ExecStart=/usr/bin/virtlogctl metrics --textfile /srv/metrics/virtlogd.prom\n",
    );
    systemctl(&["start", unit]);
    assert!(fs::read_to_string("/srv/metrics/virtlogd.prom").unwrap().contains("virtlogd_logs 0"));
}

fn make_directory(path: &str) {
    fs::create_dir_all(path).unwrap();
    chown(path, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
}
