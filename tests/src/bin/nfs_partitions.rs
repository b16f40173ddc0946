//! Partitions of hosts from an NFS server, in the machine of `tests/nfs`.
//!
//! `nfs_partitions all PARTITIONS HOSTS LEASE_S` cuts hosts 1 to `HOSTS` off, again and again, all at
//! times of their own. The last host's daemon only logs. `nfs_partitions take IMAGE TRACE` waits for the
//! lock of an image, and writes a block when it has it. `nfs_partitions suspend SECONDS` suspends the
//! machine, and says for how long the guest of host 1 has written after that.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use tests::blocks::{Block, SECOND_HOST, boot_time_ms, judge};
use tests::guest::owner;
use tests::load::lease_range;
use tests::wire::LockClient;

/// Time that anything may take here.
const PATIENCE: Duration = Duration::from_secs(90);

/// Guests that are started for one partition.
const ATTEMPTS: usize = 10;

/// Age of the last block of a guest that still writes, at the most.
const LAST_BLOCK_MS: u64 = 500;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["take", image, trace] => take(image, trace).map_err(|error| error.to_string()),
        ["suspend", seconds] => suspend(seconds),
        ["all", numbers @ ..] => {
            let numbers: Vec<u64> = numbers.iter().filter_map(|text| text.parse().ok()).collect();
            match numbers.as_slice() {
                &[partitions, hosts, lease_s] => all(partitions, hosts, lease_s * 1000),
                _ => Err("three numbers".into()),
            }
        }
        _ => Err("usage: nfs_partitions all PARTITIONS HOSTS LEASE_S".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("nfs_partitions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for the lock, writes a block, and keeps the lock until it is killed.
fn take(image: &str, trace: &str) -> io::Result<()> {
    let image = File::options().read(true).write(true).open(image)?;
    let range = lease_range();
    while fcntl(&image, FcntlArg::F_OFD_SETLK(&range)).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
    File::options().append(true).open(trace)?.write_all(&Block::now(SECOND_HOST).bytes())?;
    thread::sleep(Duration::from_secs(3600));
    Ok(())
}

fn all(partitions: u64, hosts: u64, lease_ms: u64) -> Result<(), String> {
    let ended: Vec<Result<u64, String>> = thread::scope(|scope| {
        let rounds = partitions / (hosts - 1);
        let logs = scope
            .spawn(move || (0..rounds).map(|_| Host(hosts).logs(lease_ms)).collect::<Vec<_>>());
        let ends = (1..hosts).map(|number| {
            let of_host = (number..=partitions).step_by(usize::try_from(hosts - 1).expect("few"));
            scope.spawn(move || {
                of_host.map(|it| Host(number).ends(it, lease_ms)).collect::<Vec<_>>()
            })
        });
        let ends: Vec<_> = ends.collect();
        let mut all: Vec<_> = ends.into_iter().flat_map(|it| it.join().expect("a host")).collect();
        all.extend(logs.join().expect("a host").into_iter().filter_map(Result::err).map(Err));
        all
    });
    let wrong: Vec<_> = ended.iter().filter_map(|it| it.as_ref().err()).collect();
    let early = ended.iter().filter_map(|it| it.as_ref().ok()).min();
    println!(
        "{} partitions, {} wrong, the latest guest {early:?} ms early",
        ended.len(),
        wrong.len()
    );
    if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
}

/// Suspends the machine for longer than the lease of host 1, whose guest must not write for long after
/// that.
fn suspend(seconds: &str) -> Result<(), String> {
    let host = Host(1);
    fs::remove_file(host.trace()).ok();
    let (mut guest, _client) = host.start_guest()?;
    thread::sleep(Duration::from_secs(3));
    let write = |path: &str, text: &str| {
        fs::write(path, text).map_err(|error| format!("suspend: {path}: {error}"))
    };
    write("/sys/class/rtc/rtc0/wakealarm", &format!("+{seconds}"))?;
    write("/sys/power/state", "mem").or_else(|_| write("/sys/power/state", "freeze"))?;
    let resumed = boot_time_ms();
    let begin = Instant::now();
    while guest.0.try_wait().map_err(|error| error.to_string())?.is_none() {
        if begin.elapsed() > PATIENCE {
            return Err("suspend: the guest goes on".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let trace = fs::read(host.trace()).map_err(|error| error.to_string())?;
    let times: Vec<u64> =
        trace.chunks_exact(Block::BYTES).map(|bytes| Block::parse(bytes).boot_ms).collect();
    let gap = times.windows(2).map(|pair| (pair[1] - pair[0], pair[1])).max();
    let (gap, first) = gap.ok_or("suspend: nothing was written")?;
    let after = times.last().map_or(0, |last| last - first);
    println!(
        "suspended for {gap} ms; the guest wrote for {after} ms after that, and was gone {} ms after \
         the resume",
        boot_time_ms() - resumed
    );
    Ok(())
}

/// A process that ends with its value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A host that is cut off now and then.
#[derive(Clone, Copy)]
struct Host(u64);

impl Host {
    /// Ends a guest by a partition. Returns by how much it was early. A guest that was ended before,
    /// as this machine was too slow to answer, was in no partition: there is another one then.
    fn ends(self, partition: u64, lease_ms: u64) -> Result<u64, String> {
        for _ in 0..ATTEMPTS {
            fs::remove_file(self.trace()).ok();
            let (mut guest, client) = self.start_guest()?;
            thread::sleep(Duration::from_millis(3000 + partition * 1237 % 5000));
            if guest.0.try_wait().map_err(|error| error.to_string())?.is_none()
                && let Some(early) = self.is_cut_off(partition, lease_ms, (guest, client))?
            {
                return Ok(early);
            }
            println!("partition {partition} of host {}: the guest ended before it", self.0);
        }
        Err(format!("partition {partition} of host {}: no guest lives long enough", self.0))
    }

    fn is_cut_off(
        self,
        partition: u64,
        lease_ms: u64,
        guest: (Process, LockClient),
    ) -> Result<Option<u64>, String> {
        let second = self.on(0, &["nfs_partitions", "take", &self.image(), &self.trace()]);
        self.link("down");
        let cut = boot_time_ms();
        let begin = Instant::now();
        while self.second_block().is_none() && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(50));
        let trace = fs::read(self.trace()).unwrap_or_default();
        self.link("up");
        let given = self.second_block().map(|at| at.saturating_sub(cut));
        drop((second, guest));
        // The last question that was answered is at most a sixth of the lease time older than the cut.
        let end = cut + lease_ms - lease_ms / 6 - 200;
        let early = judge(&trace, end);
        println!(
            "partition {partition} of host {}: other host {given:?} ms after the cut, guest early by {early:?}",
            self.0
        );
        let early =
            early.map_err(|wrong| format!("partition {partition} of host {}: {wrong}", self.0))?;
        Ok(Some(early).filter(|early| end - early + LAST_BLOCK_MS >= cut))
    }

    /// Looks when the daemon logs that a lease is not proved, beside what the kernel tells.
    fn logs(self, lease_ms: u64) -> Result<(), String> {
        for _ in 0..ATTEMPTS {
            if self.logs_once(lease_ms)? {
                return Ok(());
            }
            println!("host {}: the server had not answered before it", self.0);
        }
        Err(format!("host {}: the server does not answer often enough", self.0))
    }

    /// Returns whether the server had answered until the link was down.
    fn logs_once(self, lease_ms: u64) -> Result<bool, String> {
        fs::remove_file(self.trace()).ok();
        let (mut guest, _client) = self.start_guest()?;
        let before = self.log().len();
        let log = || self.log().split_off(before);
        thread::sleep(Duration::from_secs(5));
        let second = self.on(0, &["nfs_partitions", "take", &self.image(), &self.trace()]);
        self.link("down");
        let begin = Instant::now();
        let (mut logged, mut expired, mut given) = (None, None, None);
        while (logged.is_none() || expired.is_none() || given.is_none())
            && begin.elapsed() < PATIENCE
        {
            let now = |happened: bool| happened.then(|| begin.elapsed());
            logged = logged.or_else(|| now(log().contains("are not proved any more")));
            expired = expired.or_else(|| now(self.is_expired()));
            given = given.or_else(|| now(self.second_block().is_some()));
            thread::sleep(Duration::from_millis(20));
        }
        self.link("up");
        while !log().contains("is lost: the kernel reads its file no more") {
            if begin.elapsed() > 2 * PATIENCE {
                return Err(format!("nothing of the lost lock is logged: {}", log()));
            }
            thread::sleep(Duration::from_millis(200));
        }
        drop(second);
        println!(
            "host {}: logged {logged:?} after the cut, lease_expired after {expired:?}, other host {given:?}",
            self.0
        );
        let is_alive = guest.0.try_wait().map_err(|error| error.to_string())?.is_none();
        match (logged, expired) {
            (Some(logged), Some(expired)) if logged > expired + Duration::from_secs(1) => {
                Err(format!("the log was late by {:?}", logged - expired))
            }
            (Some(logged), _) if logged < Duration::from_millis(lease_ms / 2) => Ok(false),
            (Some(_), Some(_)) if is_alive => Ok(true),
            _ => Err(format!("logged {logged:?}, expired {expired:?}, guest alive {is_alive}")),
        }
    }

    fn log(self) -> String {
        fs::read_to_string(format!("/tmp/log{}", self.0)).unwrap_or_default()
    }

    /// Whether by the kernel's account the lease has run out.
    fn is_expired(self) -> bool {
        let path = format!("/proc/{}/mountstats", self.process());
        let statistics = fs::read_to_string(path).unwrap_or_default();
        let expired = statistics.split_once("lease_expired=").map(|(_, rest)| rest);
        expired.is_some_and(|rest| !rest.starts_with('0'))
    }

    /// Starts a guest with a lease, which may be released only now.
    fn start_guest(self) -> Result<(Process, LockClient), String> {
        let guest = self.on(self.0, &["leasing_fs", "guest", &self.trace()]);
        let socket = format!("/tmp/run{}/libvirt/virtlockd-sock", self.0);
        let begin = Instant::now();
        // The daemon and the guest may not have started yet.
        let is_there = |path: &str| Path::new(path).exists();
        while !(is_there(&socket) && is_there(&self.trace())) && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(200));
        }
        let mut client = LockClient::connect(Path::new(&socket)).map_err(|it| it.to_string())?;
        client.register(&owner(guest.0.id()), 0).map_err(|it| format!("{it:?}"))?;
        loop {
            match client.acquire("", &self.image(), 0) {
                Ok(()) => return Ok((guest, client)),
                Err(error) if begin.elapsed() > PATIENCE => return Err(format!("{error:?}")),
                Err(_) => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Starts a program on a host.
    fn on(self, host: u64, words: &[&str]) -> Process {
        let process = Self(host).process();
        let mut command = Command::new("nsenter");
        command.args(["-t", &process, "-n", "-m", "-u"]).args(words).stdin(Stdio::null());
        Process(command.spawn().expect("starting a program"))
    }

    fn link(self, state: &str) {
        let link = format!("v{}", self.0);
        let done = Command::new("ip").args(["link", "set", &link, state]).status();
        assert!(done.expect("setting a link").success());
    }

    /// Returns when the other host has written.
    fn second_block(self) -> Option<u64> {
        let trace = fs::read(self.trace()).ok()?;
        let block = trace
            .rchunks_exact(Block::BYTES)
            .map(Block::parse)
            .find(|block| block.number >= SECOND_HOST);
        block.map(|block| block.boot_ms)
    }

    fn process(self) -> String {
        let text = fs::read_to_string(format!("/run/host{}", self.0)).expect("the host's process");
        text.trim().to_owned()
    }

    fn image(self) -> String {
        format!("/m/image{}", self.0)
    }

    fn trace(self) -> String {
        PathBuf::from(format!("/tmp/trace{}", self.0)).to_string_lossy().into_owned()
    }
}
