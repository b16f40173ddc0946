//! A daemon's deaths at random moments.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Program, eventually, eventually_within};
use tests::machine::{
    expect_property, journal, main_pid, main_socket, property, service, status, systemctl,
};
use tests::wire::Connection;

/// Kills of one test, unless `VIRT_TESTS_KILLS` says otherwise.
pub(super) const COUNT: usize = 20;

/// The longest time between a daemon's start and its death, in microseconds: some die before they
/// have adopted anything, some while they do, some while they serve.
const LIFE_US_MAX: u64 = 50_000;

/// How long a daemon may be at work before it is killed all the same.
const REST: Duration = Duration::from_millis(100);

/// How long systemd may take to start the daemon again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kills a service's process again and again.
pub(super) struct Kills {
    program: Program,
    /// Lists the processes of the service, sooner than systemd would tell.
    processes: PathBuf,
    last: Option<Pid>,
    random: Random,
}

/// Numbers as if by chance (splitmix64), the same for the same seed.
pub(super) struct Random(u64);

/// How often a test kills.
pub(super) fn count() -> usize {
    setting("VIRT_TESTS_KILLS").map_or(COUNT, |text| text.parse().expect("a number of kills"))
}

impl Kills {
    /// Of a service that runs.
    pub(super) fn of(program: Program) -> Self {
        let processes = control_group(program).join("cgroup.procs");
        Self { program, processes, last: None, random: Random::seeded() }
    }

    /// Waits until systemd has started the daemon again, and then a random time. Every other time it
    /// begins when the daemon serves: it must get on, however slow this machine is.
    pub(super) fn wait(&mut self) {
        self.wait_for_process();
        if self.random.below(2) == 0 {
            expect_property(&service(self.program), "ActiveState", "active");
        }
        std::thread::sleep(Duration::from_micros(self.random.below(LIFE_US_MAX)));
    }

    /// Waits until systemd has started the daemon again, which may not be itself yet.
    pub(super) fn wait_for_process(&self) -> Pid {
        let mut found = None;
        let is_restarted = eventually_within(PATIENCE, || {
            found = self.running();
            found.is_some()
        });
        let unit = service(self.program);
        assert!(is_restarted, "never restarted: {}{}", journal(&unit), status(&unit));
        found.expect("it came about")
    }

    /// Kills it. Whoever looks at once finds nobody there: systemd waits 100 ms.
    pub(super) fn strike(&mut self) {
        let pid = self.wait_for_process();
        kill(pid, Signal::SIGKILL).expect("killing the daemon");
        eventually("the daemon is dead", || kill(pid, None) == Err(Errno::ESRCH));
        self.last = Some(pid);
    }

    /// Waits until it serves again, and checks that nothing but `count` kills has ended it.
    pub(super) fn finish(self, count: usize) {
        let unit = service(self.program);
        expect_property(&unit, "ActiveState", "active");
        assert_eq!(property(&unit, "NRestarts"), count.to_string(), "{}", journal(&unit));
    }

    /// What lies between two kills is up to chance.
    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Whether it is the service's main process, and not one that its start is preceded by: systemd's
    /// child, with the program's name. Before the exec it has the end of that, in parentheses.
    fn is_daemon(&self, pid: Pid) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
        let name = field("Name:").unwrap_or_default().trim_matches(['(', ')']);
        field("PPid:") == Some("1") && !name.is_empty() && self.program.name().ends_with(name)
    }

    fn running(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.processes).ok()?;
        let pids = text.lines().map(|line| Pid::from_raw(line.parse().expect("a pid")));
        pids.into_iter().find(|&pid| Some(pid) != self.last && self.is_daemon(pid))
    }
}

impl Random {
    fn seeded() -> Self {
        let seed = setting("VIRT_TESTS_SEED")
            .map_or_else(now_ns, |text| text.parse().expect("a seed is a number"));
        println!("VIRT_TESTS_SEED={seed}");
        Self(seed)
    }

    /// A number that is less than `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Where the kernel says what a service consists of.
pub(super) fn control_group(program: Program) -> PathBuf {
    let group = property(&service(program), "ControlGroup");
    PathBuf::from(format!("/sys/fs/cgroup{group}"))
}

/// Ends a service's process by this signal; returns when a new one serves. As it does not come
/// from an error of its own, Rust's runtime ignores the first SIGSEGV.
pub(super) fn kill_by(program: Program, signal: Signal) {
    let before = main_pid(program);
    wait_for_rest(before);
    eventually("the daemon is dead", || kill(before, signal) == Err(Errno::ESRCH));
    wait_until_restarted(program, before);
}

/// Waits until the daemon answers a call.
pub(super) fn wait_for_an_answer(program: Program) {
    // A procedure that there is not is answered at once.
    eventually("it answers", || {
        Connection::open(&main_socket(program))
            .and_then(|mut client| client.try_call(program.number(), 99, &[]))
            .is_ok()
    });
}

/// Gives a daemon a moment to get to rest. Killed between an answer and the note of it, it would
/// have the next one send that client an error as well.
pub(super) fn wait_for_rest(daemon: Pid) {
    let is_at_work = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        status.contains("State:\tR")
    };
    eventually_within(REST, || {
        let threads = fs::read_dir(format!("/proc/{daemon}/task"));
        !threads.is_ok_and(|threads| threads.flatten().any(is_at_work))
    });
}

/// Waits until a process other than `before` serves.
pub(super) fn wait_until_restarted(program: Program, before: Pid) {
    let unit = service(program);
    let show = ["show", "--property=ActiveState,MainPID", &unit];
    eventually(&format!("{unit} is restarted"), || {
        let state = systemctl(&show);
        let serves = state.lines().any(|line| line == "ActiveState=active");
        serves && !state.lines().any(|line| line == format!("MainPID={before}"))
    });
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    now.as_secs() << 30 | u64::from(now.subsec_nanos())
}
