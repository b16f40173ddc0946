//! virtlockd under a supervisor with an fd store, killed and started again, and on the way from our
//! daemon to libvirt's and back.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::owner;
use tests::harness::{Daemon, Host, Program, Route, Subject, Whose, eventually};
use tests::load::is_free;
use tests::supervisor::Supervisor;
use tests::wire::{
    ACQUIRE_AUTOCREATE, ACQUIRE_SHARED, ADMIN_PROGRAM, Answer, Header, LOCK_PROGRAM, LockClient,
    Writer,
};

tests::mixed! { Virtlockd: leases_of_two_names_are_stored_again }

tests::ours! { Virtlockd:
    lockspaces_and_settings_outlive_a_crash,
    lockspaces_and_settings_outlive_a_restart,
}

/// A pid that no process has: the kernel's own limit is below.
const NOBODY: u32 = 5_000_000;

/// Fds that the store takes.
const STORE: usize = 50;

/// Descriptors are passed to whatever process is started, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Procedures of the lock program (libvirt's values).
const ACQUIRE: i32 = 6;
const RELEASE: i32 = 7;
const CREATE_LOCKSPACE: i32 = 8;

/// `SET_CLIENT_LIMITS`, and the type of a parameter that is an unsigned number (libvirt's values).
const SET_CLIENT_LIMITS: i32 = 13;
const UINT: u32 = 2;

struct Service {
    host: Arc<Host>,
    supervisor: Supervisor,
    daemon: Daemon,
}

impl Service {
    fn start() -> Self {
        let host = Host::new();
        let supervisor = Supervisor::new(&host.path("supervisor"), STORE);
        let daemon = spawn(&host, &supervisor);
        let service = Self { host, supervisor, daemon };
        service.expect_ready(1);
        service
    }

    fn expect_ready(&self, count: usize) {
        eventually("it is ready", || self.supervisor.ready_count() >= count);
    }

    fn change_to(&self, whose: Whose) {
        let count = self.supervisor.ready_count();
        self.daemon.put(whose);
        self.daemon.signal(Signal::SIGUSR1);
        self.expect_ready(count + 1);
    }

    fn end_and_start(&mut self, signal: Signal) {
        let count = self.supervisor.ready_count();
        self.daemon.signal(signal);
        self.daemon.wait();
        self.supervisor.catch_up();
        self.daemon = spawn(&self.host, &self.supervisor);
        self.expect_ready(count + 1);
    }

    fn stored_leases(&self) -> usize {
        self.supervisor.names().iter().filter(|name| name.starts_with('r')).count()
    }

    fn client(&self) -> LockClient {
        let mut client = self.daemon.lock_client();
        client.register(&owner(NOBODY), 0).unwrap();
        client
    }

    fn image(&self, name: &str) -> String {
        let path = self.host.file(name);
        fs::write(&path, "").unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn spawn(host: &Arc<Host>, supervisor: &Supervisor) -> Daemon {
    let stored = supervisor.stored().into_iter();
    let stored = stored.map(|stored| (stored.name, stored.fd.try_clone().expect("a copy")));
    let subject = Subject { whose: Whose::Ours, program: Program::Virtlockd };
    let setup = subject.setup_on(host).replaceable().supervised_at(supervisor.path());
    setup.env("FDSTORE", STORE.to_string()).pass(stored).spawn()
}

fn leases_of_two_names_are_stored_again(_: Route) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut service = Service::start();
    let (image, alias) = (service.image("image"), service.host.file("alias"));
    fs::hard_link(&image, &alias).unwrap();
    let alias = alias.to_str().unwrap().to_owned();
    let mut client = service.client();
    client.acquire("", &image, ACQUIRE_SHARED).unwrap();
    client.acquire("", &alias, ACQUIRE_SHARED).unwrap();
    service.change_to(Whose::Theirs);
    service.change_to(Whose::Ours);
    eventually("both are stored", || service.stored_leases() == 2);
    // The supervisor is asked whether it has them.
    std::thread::sleep(Duration::from_millis(300));
    service.end_and_start(Signal::SIGKILL);
    assert!(!is_free(&image));
    let mut client = service.client();
    client.release("", &image, 0).unwrap();
    assert!(!is_free(&image));
    client.release("", &alias, 0).unwrap();
    assert!(is_free(&image));
}

fn lockspaces_and_settings_outlive_a_crash(_: Subject) {
    outlive(Signal::SIGKILL);
}

fn lockspaces_and_settings_outlive_a_restart(_: Subject) {
    outlive(Signal::SIGTERM);
}

fn outlive(signal: Signal) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut service = Service::start();
    let space = service.host.file("space").to_str().unwrap().to_owned();
    let no_text = [space.as_bytes(), b"\xff"].concat();
    service.client().create_lockspace(&space).unwrap();
    service.client().call(CREATE_LOCKSPACE, Writer::new().string(&no_text)).unwrap();
    set_limit(&service.daemon, 1);
    for whose in [None, Some(Whose::Ours), None] {
        whose.into_iter().for_each(|whose| service.change_to(whose));
        std::thread::sleep(Duration::from_millis(300));
        service.end_and_start(signal);
        let mut client = service.client();
        for space in [space.as_bytes(), &no_text] {
            let lease = |flags| Writer::new().string(space).string("lease").u32(flags);
            client.call(ACQUIRE, lease(ACQUIRE_AUTOCREATE)).unwrap();
            client.call(RELEASE, lease(0)).unwrap();
        }
        let mut second = service.daemon.connect_main();
        second.send(&Header::call(LOCK_PROGRAM, 99).message(&[])).unwrap();
        let answer = second.answer_within(Duration::from_millis(300));
        assert!(matches!(answer, Answer::Silence), "the limit is forgotten: {answer:?}");
    }
}

fn set_limit(daemon: &Daemon, clients_max: u32) {
    let arguments = Writer::new().string("virtlockd").u32(2);
    let arguments = arguments.string("nclients_max").u32(UINT).u32(clients_max);
    let arguments = arguments.string("nclients_unauth_max").u32(UINT).u32(1).u32(0);
    let mut admin = daemon.connect_admin();
    admin.call(ADMIN_PROGRAM, SET_CLIENT_LIMITS, &arguments.into_bytes()).unwrap();
}
