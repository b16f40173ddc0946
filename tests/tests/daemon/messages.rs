//! What the daemons say of themselves: take-overs, crashes, losses, and leases for those who audit them.

use std::process::{Child, Command};

use nix::sys::signal::Signal;
use tests::guest::NOBODY;
use tests::harness::{
    Daemon, Host, Program, Subject, Whose, eventually, guest_writes, size, write,
};
use tests::supervisor::Service;
use tests::wire::{LockClient, Owner};

mod virtlogd {
    use super::*;
    tests::ours! { Virtlogd:
        a_take_over_is_told,
        a_crash_is_told,
        the_end_of_a_loss_is_told,
    }
}

mod virtlockd {
    use super::*;
    tests::ours! { Virtlockd:
        a_take_over_is_told,
        a_crash_is_told,
        leases_are_audited_if_that_is_wanted,
        leases_are_audited_by_the_name_of_their_registration,
        leases_that_a_stop_frees_are_audited,
        leases_are_not_audited_unasked,
    }
}

/// Configuration with which leases are audited.
const AUDIT: &str = "log_filters = \"2:locking.audit\"\nlog_outputs = \"2:stderr\"\n";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A process that leases belong to.
struct Guest(Child);

impl Guest {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().expect("sleep can be run"))
    }

    fn registered(&self, daemon: &Daemon, name: &str) -> LockClient {
        let mut client = daemon.lock_client();
        let owner = Owner { name: name.to_owned(), ..tests::guest::owner(self.0.id()) };
        client.register(&owner, 0).unwrap();
        client
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a daemon has, which its messages count.
enum Held {
    Log { _pipe: std::fs::File },
    Lease { _client: LockClient, _guest: Guest },
}

impl Held {
    fn take(daemon: &Daemon) -> Self {
        match daemon.subject().program {
            Program::Virtlogd => {
                let opened = daemon.log_client().open(&daemon.file("guest.log")).unwrap();
                Self::Log { _pipe: opened.pipe }
            }
            Program::Virtlockd => {
                let guest = Guest::start();
                let image = daemon.file("image");
                write(&image, "");
                let mut client = guest.registered(daemon, "guest");
                client.acquire("", image.to_str().unwrap(), 0).unwrap();
                Self::Lease { _client: client, _guest: guest }
            }
        }
    }

    fn counted(&self) -> &'static str {
        match self {
            Self::Log { .. } => "1 logs, 0 clients",
            Self::Lease { .. } => "1 leases, 1 clients",
        }
    }
}

fn a_take_over_is_told(subject: Subject) {
    let theirs = Subject { whose: Whose::Theirs, ..subject };
    let has_theirs = theirs.executable().is_ok();
    let first = if has_theirs { theirs } else { subject };
    let daemon = first.setup().replaceable().start();
    let held = Held::take(&daemon);
    let counted = held.counted();
    for generation in 1..3 {
        daemon.put(Whose::Ours);
        daemon.signal(Signal::SIGUSR1);
        daemon.expect_said(&if generation == 1 && has_theirs {
            format!("Took over from libvirt's daemon: {counted}\n")
        } else {
            let generation = if has_theirs { generation - 1 } else { generation };
            format!("Took over from version {VERSION}, generation {generation}: {counted}\n")
        });
    }
}

fn a_crash_is_told(subject: Subject) {
    let host = Host::new();
    let mut service = Service::start_of(subject, &host, 1_000);
    let held = Held::take(service.daemon());
    let what = ["l", "r"].map(String::from);
    eventually("it is in the store", || {
        let names = service.supervisor.names();
        names.iter().any(|name| what.iter().any(|kind| name.starts_with(kind)))
    });
    service.restart(Signal::SIGKILL);
    // A connection that is not the guest's own does not outlive a crash.
    let counted = held.counted().replace("1 clients", "0 clients");
    let told = format!("Went on after a crash or a stop, nothing is missing: {counted}\n");
    service.daemon().expect_said(&told);
}

fn the_end_of_a_loss_is_told(subject: Subject) {
    const FILE_SIZE: u64 = 65_536;
    let daemon =
        subject.setup().config("max_size = 0").limit(&format!("--fsize={FILE_SIZE}")).start();
    let path = daemon.file("guest.log");
    let log = daemon.log_client().open(&path).unwrap();
    guest_writes(&log.pipe, vec![b'x'; 1 << 20]);
    eventually("the file has reached the limit", || size(&path) == Some(FILE_SIZE));
    daemon.expect_said("is being lost: ");
    let said = daemon.stderr();
    for line in said.lines().filter(|line| line.contains(": error : ")) {
        assert_eq!(line.matches(path.to_str().unwrap()).count(), 1, "{line}");
    }
    // What was kept is as large as the file may become.
    eventually("the end is told", || {
        write(&path, "");
        daemon.stderr().contains(" can be written again: ")
    });
    let said = daemon.stderr();
    let line = said.lines().find(|line| line.contains(" can be written again: ")).unwrap();
    let (about, lost) = line.split_once(" can be written again: ").unwrap();
    assert!(about.contains(": warning : ") && about.contains(" of guest '"), "{line}");
    assert_eq!(line.matches(path.to_str().unwrap()).count(), 1, "{line}");
    let (bytes, period) = lost.split_once(" bytes were lost between 20").unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 0 && period.contains("+0000 and 20"), "{line}");
}

fn leases_are_audited_if_that_is_wanted(subject: Subject) {
    let daemon = subject.start_with(AUDIT);
    let [image, shared] = ["image", "shared"].map(|name| daemon.file(name));
    [&image, &shared].iter().for_each(|image| write(image, ""));
    let [image, shared] = [&image, &shared].map(|path| path.to_str().unwrap());
    let guests = [(); 2].map(|()| Guest::start());
    let pids = guests.each_ref().map(|guest| guest.0.id());
    let [mut first, mut second] = [(&guests[0], "first"), (&guests[1], "second")]
        .map(|(guest, name)| guest.registered(&daemon, name));
    let shown = |name: &str, pid: u32| {
        format!("guest '{name}' (uuid 5a5a5a5a-5a5a-5a5a-5a5a-5a5a5a5a5a5a, pid {pid})")
    };
    let [first_shown, second_shown] = [shown("first", pids[0]), shown("second", pids[1])];
    first.acquire("", image, 0).unwrap();
    second.acquire("", image, 0).unwrap_err();
    first.acquire("", shared, tests::wire::ACQUIRE_SHARED).unwrap();
    first.release("", image, 0).unwrap();
    second.acquire("", image, 0).unwrap();
    drop(guests);
    let us = std::process::id();
    let expected = [
        format!("Lease taken: {image} (exclusive) by {first_shown}"),
        format!(
            "Lease refused: {image} to {second_shown}, for which process {us} has asked: resource busy: Lockspace resource '{image}' is locked"
        ),
        format!("Lease taken: {shared} (shared) by {first_shown}"),
        format!("Lease released: {image} by {first_shown}: by its client"),
        format!("Lease taken: {image} (exclusive) by {second_shown}"),
        format!("Lease released: {shared} by {first_shown}: the guest has ended"),
        format!("Lease released: {image} by {second_shown}: the guest has ended"),
    ];
    eventually("the ends are audited", || audited(&daemon).len() >= expected.len());
    let mut found = audited(&daemon);
    // Two guests end at once.
    found[5..].sort_by_key(|line| !line.contains(shared));
    assert_eq!(found, expected);
}

/// A process may be registered under more than one.
fn leases_are_audited_by_the_name_of_their_registration(subject: Subject) {
    let daemon = subject.start_with(AUDIT);
    let image = daemon.file("image");
    write(&image, "");
    let image = image.to_str().unwrap();
    let guest = Guest::start();
    let names = ["first", "second"];
    let clients = names.map(|name| guest.registered(&daemon, name));
    for (name, mut client) in names.into_iter().zip(clients) {
        client.acquire("", image, 0).unwrap();
        client.release("", image, 0).unwrap();
        let is_its_name = |line: &String| line.contains(&format!("guest '{name}'"));
        eventually("both are audited", || {
            audited(&daemon).iter().filter(|line| is_its_name(line)).count() == 2
        });
    }
}

/// The owner is no process, so the stop cannot end it first.
fn leases_that_a_stop_frees_are_audited(subject: Subject) {
    let daemon = subject.start_with(AUDIT);
    let image = daemon.file("image");
    write(&image, "");
    let image = image.to_str().unwrap();
    let mut client = daemon.lock_client();
    client.register(&tests::guest::owner(NOBODY), 0).unwrap();
    client.acquire("", image, 0).unwrap();
    let said = daemon.stop().stderr;
    let lost = format!(" : Lease lost: {image}: the daemon stops: guest 'guest' ");
    assert!(said.contains(&lost), "{said}");
}

fn leases_are_not_audited_unasked(subject: Subject) {
    let daemon = subject.start();
    let held = Held::take(&daemon);
    drop(held);
    let held = Held::take(&daemon);
    assert_eq!(audited(&daemon), [""; 0]);
    drop(held);
}

/// The texts of all messages about a lease.
fn audited(daemon: &Daemon) -> Vec<String> {
    let said = daemon.stderr();
    let texts = said.lines().filter_map(|line| line.split_once(" : Lease "));
    texts.map(|(_, text)| format!("Lease {text}")).collect()
}
