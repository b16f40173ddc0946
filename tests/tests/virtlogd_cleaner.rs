//! virtlogd removing logs of guests that are long gone. libvirt's 9.0.0 has no cleaner.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tests::harness::{Subject, backup, eventually_within, expect_file, expect_missing, write};

tests::ours! { Virtlogd:
    old_logs_go_and_open_ones_stay,
}

/// The first pass comes a minute after the start.
const FIRST_PASS_DEADLINE: Duration = Duration::from_secs(120);

fn old_logs_go_and_open_ones_stay(subject: Subject) {
    let setup = subject.setup();
    let host = setup.host();
    let (gone, young, open) =
        (host.file("gone.log"), host.file("young.log"), host.file("open.log"));
    for path in [&gone, &young, &open] {
        write_old(path);
        write_old(&backup(path, 0));
    }
    write(&young, "of today");
    let root = host.path("files");
    let config = format!("max_age_days = 1\nlog_root = \"{}/\"\n", root.display());
    let daemon = setup.config(&config).start();
    let _log = daemon.log_client().open(&open).unwrap();
    assert!(eventually_within(FIRST_PASS_DEADLINE, || !gone.exists()));
    expect_missing(&backup(&gone, 0));
    expect_file(&young, "of today");
    expect_file(&backup(&young, 0), "old");
    expect_file(&open, "old");
    expect_file(&backup(&open, 0), "old");
}

fn write_old(path: &Path) {
    write(path, "old");
    let three_days = Duration::from_secs(3 * 24 * 60 * 60);
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - three_days).unwrap();
}
