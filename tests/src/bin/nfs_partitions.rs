//! Partitions of hosts from an NFS server, in the machine of `tests/nfs`.
//!
//! `nfs_partitions all PARTITIONS HOSTS LEASE_S` cuts hosts 1 to `HOSTS` off, again and again, all at
//! times of their own. The last host's daemon only logs. `nfs_partitions take IMAGE TRACE` waits for the
//! lock of an image, and writes a block when it has it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tests::blocks::{Block, SECOND_HOST, boot_time_ms, judge};
use tests::guest::owner;
use tests::wire::LockClient;

/// Time that anything may take here.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["take", image, trace] => take(image, trace).map_err(|error| error.to_string()),
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
    let range = libc::flock {
        l_type: libc::F_WRLCK.try_into().expect("a lock type is small"),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    while fcntl(&image, FcntlArg::F_OFD_SETLK(&range)).is_err() {
        thread::sleep(Duration::from_millis(5));
    }
    File::options().append(true).open(trace)?.write_all(&Block::now(SECOND_HOST).bytes())?;
    thread::sleep(Duration::from_secs(3600));
    Ok(())
}

fn all(partitions: u64, hosts: u64, lease_ms: u64) -> Result<(), String> {
    let ended: Vec<Result<u64, String>> = thread::scope(|scope| {
        let logs = scope.spawn(move || Host(hosts).logs(lease_ms));
        let ends = (1..hosts).map(|number| {
            let of_host = (number..=partitions).step_by(usize::try_from(hosts - 1).expect("few"));
            scope.spawn(move || {
                of_host.map(|it| Host(number).ends(it, lease_ms)).collect::<Vec<_>>()
            })
        });
        let ends: Vec<_> = ends.collect();
        let mut all: Vec<_> = ends.into_iter().flat_map(|it| it.join().expect("a host")).collect();
        all.extend(logs.join().expect("a host").err().map(Err));
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
    /// Ends a guest by a partition. Returns by how much it was early.
    fn ends(self, partition: u64, lease_ms: u64) -> Result<u64, String> {
        fs::remove_file(self.trace()).ok();
        let (guest, _client) = self.start_guest()?;
        thread::sleep(Duration::from_millis(3000 + partition * 1237 % 5000));
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
        early.map_err(|wrong| format!("partition {partition} of host {}: {wrong}", self.0))
    }

    /// Looks when the daemon logs that a lease is not proved, beside what the kernel tells.
    fn logs(self, lease_ms: u64) -> Result<(), String> {
        let (mut guest, _client) = self.start_guest()?;
        thread::sleep(Duration::from_secs(5));
        let second = self.on(0, &["nfs_partitions", "take", &self.image(), &self.trace()]);
        self.link("down");
        let begin = Instant::now();
        let (mut logged, mut expired) = (None, None);
        while (logged.is_none() || expired.is_none()) && begin.elapsed() < PATIENCE {
            let log = fs::read_to_string(format!("/tmp/log{}", self.0)).unwrap_or_default();
            if logged.is_none() && log.contains("are not proved any more") {
                logged = Some(begin.elapsed());
            }
            let statistics = fs::read_to_string(format!("/proc/{}/mountstats", self.process()));
            let is_expired = statistics.unwrap_or_default().contains("lease_expired=")
                && !fs::read_to_string(format!("/proc/{}/mountstats", self.process()))
                    .unwrap_or_default()
                    .contains("lease_expired=0");
            if expired.is_none() && is_expired {
                expired = Some(begin.elapsed());
            }
            thread::sleep(Duration::from_millis(20));
        }
        while self.second_block().is_none() && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
        self.link("up");
        let log = || fs::read_to_string(format!("/tmp/log{}", self.0)).unwrap_or_default();
        while !log().contains("is lost: the kernel reads its file no more") {
            if begin.elapsed() > PATIENCE {
                return Err("nothing of the lost lock is logged".into());
            }
            thread::sleep(Duration::from_millis(200));
        }
        drop(second);
        println!(
            "host {}: logged {logged:?} after the cut, lease_expired after {expired:?}",
            self.0
        );
        let is_alive = guest.0.try_wait().map_err(|error| error.to_string())?.is_none();
        match (logged, expired) {
            (Some(logged), Some(expired)) if logged > expired + Duration::from_secs(1) => {
                Err(format!("the log was late by {:?}", logged - expired))
            }
            (Some(logged), _) if logged < Duration::from_millis(lease_ms / 2) => {
                Err(format!("the log came after {logged:?}"))
            }
            (Some(_), Some(_)) if is_alive => Ok(()),
            _ => Err(format!("logged {logged:?}, expired {expired:?}, guest alive {is_alive}")),
        }
    }

    /// Starts a guest with a lease, which may be released only now.
    fn start_guest(self) -> Result<(Process, LockClient), String> {
        let guest = self.on(self.0, &["leasing_fs", "guest", &self.trace()]);
        let socket = format!("/tmp/run{}/libvirt/virtlockd-sock", self.0);
        let mut client = LockClient::connect(Path::new(&socket)).map_err(|it| it.to_string())?;
        client.register(&owner(guest.0.id()), 0).map_err(|it| format!("{it:?}"))?;
        let begin = Instant::now();
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
