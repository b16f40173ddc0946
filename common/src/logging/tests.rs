use super::*;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::Subscriber;
use tracing::dispatcher::{Dispatch, with_default};
use tracing::level_filters::LevelFilter;

/// Longer than it takes to open a file.
const PERIOD: Duration = Duration::from_secs(10);

/// `tracing` caches for a whole process which levels its loggers want. The loggers of two tests,
/// which no daemon has, can leave an outdated one there.
static PROCESS: Mutex<()> = Mutex::new(());

fn alone_in_the_process() -> MutexGuard<'static, ()> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Scene {
    dir: tempfile::TempDir,
    logger: Logger,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn new(level: Level, filters: &str, outputs: &str) -> Self {
        let _alone = alone_in_the_process();
        let dir = tempfile::tempdir().unwrap();
        let (filters, outputs) = (filters.to_owned(), in_dir(dir.path(), outputs));
        let settings = Settings { level, filters, outputs, ..Settings::default() };
        Self { logger: Logger::new(settings).unwrap(), dir, _alone }
    }

    fn with(&self, action: impl FnOnce()) {
        with_default(&Dispatch::new(self.logger.clone()), action);
    }

    fn set_outputs(&self, setting: &str) -> Result<(), Error> {
        set_outputs(&self.logger, &in_dir(self.dir.path(), setting))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The texts of a file's messages, its first two lines left out.
    fn texts(&self, name: &str) -> Vec<String> {
        let content = std::fs::read_to_string(self.path(name)).unwrap();
        let text = |line: &str| line.rsplit(" : ").next().unwrap().to_owned();
        content.lines().skip(2).map(text).collect()
    }
}

fn in_dir(dir: &Path, setting: &str) -> String {
    setting.replace("@/", &format!("{}/", dir.display()))
}

fn set_outputs(logger: &Logger, setting: &str) -> Result<(), Error> {
    logger.set_outputs(logger.opening(setting)?.open()?);
    Ok(())
}

fn log_everywhere() {
    for category in ["rpc", "util"] {
        match category {
            "rpc" => {
                tracing::debug!(target: "rpc.netserver", "rpc debug");
                tracing::error!(target: "rpc.netserver", "rpc error");
            }
            _ => {
                tracing::debug!(target: "util.conf", "util debug");
                tracing::warn!(target: "util.conf", "util warning");
            }
        }
    }
}

#[test]
fn the_process_has_one_log() {
    let _alone = alone_in_the_process();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let outputs = format!("4:file:{}", path.display());
    let settings = || Settings { outputs: outputs.clone(), ..Settings::default() };
    Logger::install_with(settings(), PERIOD).unwrap();
    tracing::error!(target: "only.this.test", "seen");
    assert!(std::fs::read_to_string(path).unwrap().contains(" : seen\n"));
    let again = Logger::install_with(settings(), PERIOD);
    assert!(matches!(again, Err(Error::Installed)));
}

#[test]
fn a_filter_set_while_running_changes_what_the_same_code_logs_next() {
    let scene = Scene::new(Level::Warning, "", "1:file:@/log");
    scene.with(|| {
        log_everywhere();
        assert_eq!(scene.texts("log"), ["rpc error", "util warning"]);
        scene.logger.set_filters("1:rpc 4:util").unwrap();
        assert_eq!(scene.logger.filters(), ["1:*rpc*", "4:*util*"]);
        log_everywhere();
        assert_eq!(scene.texts("log")[2..], ["rpc debug", "rpc error"]);
        scene.logger.set_filters("").unwrap();
        log_everywhere();
        assert_eq!(scene.texts("log")[4..], ["rpc error", "util warning"]);
    });
}

#[test]
fn an_output_takes_what_reaches_its_level() {
    let scene = Scene::new(Level::Debug, "", "4:file:@/errors 1:file:@/all");
    scene.with(log_everywhere);
    assert_eq!(scene.texts("errors"), ["rpc error"]);
    assert_eq!(scene.texts("all").len(), 4);
}

#[test]
fn what_no_output_takes_is_not_even_formatted() {
    let scene = Scene::new(Level::Debug, "", "4:file:@/log");
    assert_eq!(scene.logger.max_level_hint(), Some(LevelFilter::ERROR));
    scene.with(|| {
        assert!(!tracing::enabled!(target: "rpc", tracing::Level::WARN));
        scene.set_outputs("1:file:@/log").unwrap();
        assert!(tracing::enabled!(target: "rpc", tracing::Level::TRACE));
    });
}

#[test]
fn outputs_switched_between_messages_lose_none() {
    let scene = Scene::new(Level::Info, "", "1:file:@/0");
    scene.with(|| {
        for number in 0..100 {
            if number % 10 == 0 {
                scene.set_outputs(&format!("1:file:@/{}", number / 10)).unwrap();
            }
            tracing::info!(target: "daemon", "{number}");
        }
    });
    let all: Vec<String> = (0..10).flat_map(|file| scene.texts(&file.to_string())).collect();
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
    assert_eq!(scene.logger.unwritten(), []);
}

#[test]
fn threads_keep_the_order_also_when_a_file_is_opened_anew() {
    let scene = Scene::new(Level::Info, "", "1:file:@/log");
    scene.logger.use_threads();
    scene.with(|| {
        for number in 0..1000 {
            if number % 50 == 0 {
                scene.set_outputs("1:file:@/log").unwrap();
            }
            tracing::info!(target: "daemon", "number {number}");
        }
    });
    assert_eq!(scene.logger.flush(PERIOD, &[]), []);
    let content = std::fs::read_to_string(scene.path("log")).unwrap();
    let numbers = content.lines().filter_map(|line| line.rsplit_once(" : number "));
    let numbers: Vec<usize> = numbers.map(|(_, number)| number.parse().unwrap()).collect();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
}

#[test]
fn what_waits_while_threads_are_held_is_known() {
    let scene = Scene::new(Level::Info, "", "1:file:@/log 4:file:@/errors");
    scene.logger.use_threads();
    scene.with(|| tracing::info!(target: "daemon", "before"));
    let held = scene.logger.hold().unwrap();
    scene.with(|| tracing::info!(target: "daemon", "now"));
    let waits = vec![(format!("file:{}", scene.path("log").display()), 1)];
    assert_eq!(scene.logger.unwritten(), waits);
    drop(held);
    assert_eq!(scene.logger.flush(PERIOD, &[]), []);
    assert_eq!(
        (scene.texts("log"), scene.logger.unwritten()),
        (vec!["before".into(), "now".into()], vec![])
    );
}

#[test]
fn a_setting_that_is_wrong_or_cannot_be_opened_changes_nothing() {
    let scene = Scene::new(Level::Info, "1:rpc", "1:file:@/log");
    let before = scene.logger.outputs();
    for bad in ["3:stderr 1:bogus", "3:stderr 1:file:@/no/such"] {
        scene.set_outputs(bad).unwrap_err();
        assert_eq!(scene.logger.outputs(), before, "{bad}");
    }
    scene.logger.set_filters("2:util garbage").unwrap_err();
    assert_eq!(scene.logger.filters(), ["1:*rpc*"]);
    scene.with(|| tracing::info!(target: "daemon", "still here"));
    assert_eq!(scene.texts("log"), ["still here"]);
}

#[test]
fn an_empty_setting_restores_the_default_output() {
    let _alone = alone_in_the_process();
    let dir = tempfile::tempdir().unwrap();
    let log_file = dir.path().join("made/for us:/virtlogd.log");
    let destination = Destination::File(log_file.clone());
    let default_output = Output { level: Level::Info, destination };
    let settings = Settings { default_output, ..Settings::default() };
    let logger = Logger::new(settings).unwrap();
    let default = vec![format!("2:file:{}", log_file.display())];
    assert_eq!(logger.outputs(), default);
    for empty in ["", "  "] {
        set_outputs(&logger, "1:stderr").unwrap();
        assert_eq!(logger.outputs(), ["1:stderr"]);
        set_outputs(&logger, empty).unwrap();
        assert_eq!(logger.outputs(), default, "{empty:?}");
    }
    assert!(log_file.exists());
}

#[test]
fn fields_follow_the_message_and_cannot_break_the_line() {
    let scene = Scene::new(Level::Info, "", "1:file:@/log");
    let path = "a\nb";
    scene.with(|| {
        tracing::info!(target: "daemon", count = 3, name = path, "opened {path}");
    });
    assert_eq!(scene.texts("log"), ["opened a\\nb count=3 name=\"a\\nb\""]);
    let content = std::fs::read_to_string(scene.path("log")).unwrap();
    let line = content.lines().last().unwrap();
    assert!(line.contains(": info : tests:"), "{line}");
}

/// Fields in capitals go to the journal, as they are, and to no other output.
#[test]
fn fields_in_capitals_are_for_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("journal");
    let journal = UnixDatagram::bind(&address).unwrap();
    let services = Services { journal: address, ..Services::default() };
    let outputs = in_dir(dir.path(), "1:file:@/log 1:journald");
    let settings = Settings { level: Level::Info, outputs, services, ..Settings::default() };
    let scene =
        Scene { logger: Logger::new(settings).unwrap(), dir, _alone: alone_in_the_process() };
    let (path, name) = ("a\nb", Some("vm"));
    scene.with(|| {
        tracing::info!(
            target: "daemon",
            LIBVIRT_LOG_PATH = path, LIBVIRT_DOMAIN = name, LIBVIRT_PID = 7_u32, "opened"
        );
    });
    assert_eq!(scene.texts("log"), ["opened"]);
    journal.set_nonblocking(true).unwrap();
    let mut bytes = [0; 1000];
    let received = std::iter::from_fn(|| {
        let length = journal.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    });
    let entry = received.last().unwrap();
    let expected = "\nLIBVIRT_LOG_PATH=a\\nb\nLIBVIRT_DOMAIN=vm\nLIBVIRT_PID=7\n";
    assert!(entry.starts_with("MESSAGE=opened\n") && entry.ends_with(expected), "{entry}");
}

#[test]
fn errors_tell_a_client_code_text_and_number() {
    let scene = Scene::new(Level::Info, "", "1:file:@/log");
    let error = scene.logger.set_filters("garbage").unwrap_err();
    assert_eq!(error.to_rpc().code(), crate::rpc::error::Code::InvalidArg);
    let text = "invalid argument: Malformed format for filter 'garbage'";
    assert_eq!(error.to_rpc().message(), text);
    assert_eq!(error.to_string(), text);
    let error = scene.set_outputs("1:file:@/no/such").unwrap_err();
    assert_eq!(error.to_rpc().code(), crate::rpc::error::Code::SystemError);
    assert_eq!(error.to_rpc().message(), error.to_string());
}

#[test]
fn threads_end_for_an_exec_and_go_on_when_that_has_failed() {
    let scene = Scene::new(Level::Info, "", "1:file:@/0");
    scene.logger.use_threads();
    scene.with(|| {
        for number in 0..50_u64 {
            tracing::info!(target: "daemon", "{number} before");
            let held = scene.logger.hold().unwrap();
            tracing::info!(target: "daemon", "{number} held");
            // The first is written unless that took the thread too long.
            let unwritten: u64 = scene.logger.unwritten().iter().map(|(_, lines)| lines).sum();
            assert!(unwritten >= 1);
            assert_eq!(scene.texts("0").len() as u64 + unwritten, number * 2 + 2);
            drop(held);
            scene.logger.flush(PERIOD, &[]);
            assert!(scene.logger.unwritten().is_empty());
        }
        let texts = scene.texts("0");
        let expected = (0..50).flat_map(|n| [format!("{n} before"), format!("{n} held")]);
        assert_eq!(texts, expected.collect::<Vec<_>>());
    });
}

#[test]
fn outputs_that_were_replaced_end_for_an_exec_too_in_the_middle_of_their_lines() {
    const ATTEMPTS: usize = 20;
    assert!((0..ATTEMPTS).any(|_| replaced_output_writes_its_lines()));
}

/// Returns whether the lines of a replaced output came. On a machine that takes longer than their
/// [period](FLUSH_PERIOD) they are lost, as they should be.
fn replaced_output_writes_its_lines() -> bool {
    const LINES: usize = 200;
    const GREETING_LINES: usize = 2;
    let scene = Scene::new(Level::Info, "", "");
    let fifo = scene.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut options = File::options();
    let options = options.read(true).custom_flags(nix::libc::O_NONBLOCK);
    let mut reader = options.open(&fifo).unwrap();
    scene.logger.use_threads();
    let (mut ends, mut buffer) = (0, [0; 4096]);
    scene.with(|| {
        scene.set_outputs("1:file:@/fifo").unwrap();
        let line = "x".repeat(1000);
        (0..LINES).for_each(|_| tracing::info!(target: "daemon", "{line}"));
        scene.set_outputs("1:file:@/0").unwrap();
        let replaced_at = Instant::now();
        let held = scene.logger.hold().unwrap();
        assert!(scene.logger.unwritten().iter().any(|(output, _)| output.contains("fifo")));
        drop(held);
        while ends < LINES + GREETING_LINES && replaced_at.elapsed() < FLUSH_PERIOD {
            match reader.read(&mut buffer) {
                Ok(read @ 1..) => ends += buffer[..read].iter().filter(|b| **b == b'\n').count(),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    });
    ends == LINES + GREETING_LINES
}
