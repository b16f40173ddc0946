//! Upgrade in place: for how long a client gets no answer and a guest's line is not stored.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tests::harness::{Daemon, Program};

use crate::content::Content;
use crate::guest::{Guest, LogDaemon};
use crate::leases::{self, Holder};
use crate::rpc;
use crate::table::{Bench, Case, Contender, Outcome, Row, Wanted};
use crate::witness::{call_until, write_until};

/// At the most half of what libvirt's daemon takes.
const HALF: &[Wanted] = &[Wanted::MaxTimesTheirs(0.5)];

const ROWS: [Row; 3] = [
    Row("client without an answer, ms", HALF),
    Row("answers lost", &[Wanted::Max(0.0)]),
    Row("line not stored, ms", HALF),
];

/// How long the new image may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The least that a socket can be told to wait.
const NO_PATIENCE: Duration = Duration::from_millis(1);

/// How long it is looked on before and after.
const AROUND: Duration = Duration::from_millis(200);

/// Measures both daemons with nothing and with much to hand over.
pub(crate) fn run(bench: &mut Bench) {
    for count in [0, 100, 1_000, 4_000] {
        let title = format!("upgrade, virtlogd with {count} open logs");
        let rows = if count == 0 { &ROWS[..2] } else { &ROWS };
        measure(bench, Program::Virtlogd, &title, rows, |who| with_logs(who, count));
    }
    for count in [0, 1_000, 10_000] {
        let title = format!("upgrade, virtlockd with {count} leases");
        measure(bench, Program::Virtlockd, &title, &ROWS[..2], |who| with_leases(who, count));
    }
}

fn measure(
    bench: &mut Bench,
    program: Program,
    title: &str,
    rows: &[Row],
    work: impl FnMut(Contender) -> Outcome,
) {
    bench.run(&Case { title, program, rows, peers: &[], rounds_max: usize::MAX }, work);
}

fn with_logs(contender: Contender, count: usize) -> Outcome {
    let mut logs = LogDaemon::start(contender);
    let guests = logs.open_many("log", count);
    let client = UnixStream::connect(logs.daemon.main_socket()).expect("connecting");
    // That the log is not open is an answer, too, and costs the same with any number of logs.
    let call = rpc::position_call(&logs.path("none"));
    let (mut figures, writes) = across(&logs.daemon, &client, &call, guests.first())?;
    if let Some(guest) = guests.first() {
        logs.settle(&guest.path);
        Content::lines().check_log(&guest.path, writes);
    }
    figures.truncate(if count == 0 { 2 } else { 3 });
    Ok(figures)
}

fn with_leases(contender: Contender, count: usize) -> Outcome {
    let (daemon, images) = leases::start(contender, count);
    let guest = Holder::idle();
    let mut holder = guest.client(&daemon);
    for image in images.paths() {
        holder.acquire("", image, 0).expect("an unheld lease");
    }
    let mut client = guest.client(&daemon);
    let stream = client.connection().as_fd().try_clone_to_owned().expect("a copy of a socket");
    // That there is no such lease is an answer, too.
    let call = leases::release_call("/none");
    let (mut figures, _) = across(&daemon, &UnixStream::from(stream), &call, None)?;
    assert!(images.are_leased(count), "a lease was lost");
    figures.truncate(2);
    Ok(figures)
}

/// What a client and a guest saw of an upgrade, as in [`ROWS`], and how many lines there were.
fn across(
    daemon: &Daemon,
    client: &UnixStream,
    call: &[u8],
    guest: Option<&Guest>,
) -> Result<(Vec<f64>, usize), String> {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(move || call_until(client, call, stop));
        let guest = guest.map(|guest| scope.spawn(move || write_until(guest, stop)));
        let upgraded = upgrade(daemon);
        stop.store(true, Ordering::Relaxed);
        let client = client.join().expect("the client");
        let lines = guest.map(|guest| guest.join().expect("the guest"));
        upgraded?;
        let (silence, lost) = client?;
        let (delay, writes) = lines.transpose()?.unwrap_or_default();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        Ok((vec![millis(silence), lost, millis(delay)], writes))
    })
}

fn upgrade(daemon: &Daemon) -> Result<(), String> {
    sleep(AROUND);
    // What it has said until now would be in the way.
    while daemon.notification(NO_PATIENCE).is_some() {}
    let before = image(daemon);
    daemon.signal(Signal::SIGUSR1);
    let is_ready = says_ready(daemon, Instant::now() + READY_WITHIN);
    sleep(AROUND);
    match image(daemon) {
        None => Err("it died of SIGUSR1".to_owned()),
        // A daemon that stays what it was may say READY=1 as well, to end a reload.
        after if after == before => Err("no upgrade: the same image goes on".to_owned()),
        Some(_) if !is_ready => Err(format!("no READY=1 within {READY_WITHIN:?}")),
        Some(_) => Ok(()),
    }
}

fn says_ready(daemon: &Daemon, end: Instant) -> bool {
    let mut texts = std::iter::from_fn(|| {
        let patience = end.saturating_duration_since(Instant::now());
        daemon.notification(patience.max(NO_PATIENCE))
    });
    texts.any(|text| text.lines().any(|line| line == "READY=1"))
}

/// Differs from image to image, as the kernel puts each at other addresses.
fn image(daemon: &Daemon) -> Option<Vec<u8>> {
    fs::read(daemon.proc("auxv")).ok().filter(|bytes| !bytes.is_empty())
}
