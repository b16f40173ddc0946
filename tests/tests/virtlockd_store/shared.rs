//! Leases on shared storage under an fd store: what a crash leaves of what was known.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::blocks::judge;
use tests::harness::{Daemon, Host, Program, Subject, can_hang, eventually};
use tests::supervisor::{Origin, Service};

use crate::pair::{LEASE_MS, Pair, is_alive, listed, mounted, probers};
use crate::{ALONE, STORE};

tests::ours! { Virtlockd:
    after_a_crash_guests_end_in_time_if_no_answer_comes,
    after_a_crash_a_late_answer_makes_leases_doubtful_and_they_stay_so,
    after_a_crash_leases_are_proved_by_an_answer_in_time,
}

/// A daemon under an fd store, with a pair of hosts whose file systems outlive it.
struct Hosts {
    service: Service,
    pair: Pair,
    /// Process whose mount namespace the daemons are in.
    _keeper: Daemon,
    _host: Arc<Host>,
}

impl Hosts {
    fn start(subject: Subject, on_lost_lease: &str) -> Option<Self> {
        if !can_hang("leases on shared storage in an fd store") {
            return None;
        }
        let host = Host::new();
        let point = host.file("pair0/first");
        let toml = format!(
            "[[rule]]\npath = '**/first/*'\non_lost_lease = '{on_lost_lease}'\n\
             [[mount]]\npath = '{}'\nlease_s = {}\n",
            point.display(),
            LEASE_MS / 1000
        );
        let setup = subject.setup_on(&host).toml(&toml).prepare(&mounted(1));
        let keeper = setup.instead(Path::new("/usr/bin/sleep")).args(["infinity"]).spawn();
        let name = || fs::read_to_string(keeper.proc("comm")).unwrap_or_default();
        eventually("the file systems are mounted", || name() == "sleep\n");
        let pair = Pair::of(&keeper, 0);
        let through =
            vec!["nsenter".into(), format!("--mount={}", keeper.proc("ns/mnt").display())];
        let origin = Origin { through, ..Origin::default() };
        let service = Service::start_from(origin, Program::Virtlockd, &host, STORE);
        Some(Self { service, pair, _keeper: keeper, _host: host })
    }

    fn wait_until_stored(&self) {
        let names = || self.service.supervisor.names();
        eventually("the lease is stored", || names().iter().any(|name| name.starts_with('r')));
        // It has then closed its copies of files, which would wait for a server.
        eventually("a prober runs", || probers(self.service.daemon()) == 1);
    }
}

fn after_a_crash_guests_end_in_time_if_no_answer_comes(subject: Subject) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut hosts) = Hosts::start(subject, "end") else { return };
    let guest = hosts.pair.start_guest(hosts.service.daemon());
    hosts.wait_until_stored();
    hosts.pair.cut();
    hosts.service.restart(Signal::SIGKILL);
    assert!(is_alive(guest.process.id()), "an answer may still come");
    let (_lock, end_ms) = hosts.pair.take_over();
    thread::sleep(Duration::from_millis(50));
    let trace = fs::read(hosts.pair.trace()).expect("a trace");
    hosts.pair.heal();
    judge(&trace, end_ms).expect("no overlap");
    hosts.service.daemon().expect_said("is ended, as it has a lease on shared storage");
}

fn after_a_crash_a_late_answer_makes_leases_doubtful_and_they_stay_so(subject: Subject) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut hosts) = Hosts::start(subject, "log") else { return };
    let mut guest = hosts.pair.start_guest(hosts.service.daemon());
    hosts.wait_until_stored();
    hosts.pair.cut();
    hosts.service.restart(Signal::SIGKILL);
    hosts.service.daemon().expect_said("are not proved any more: its server does not answer");
    // For how long nothing was proved is not known.
    hosts.pair.heal();
    let doubtful = "another host may have had leases of this one meanwhile";
    hosts.service.daemon().expect_said(doubtful);
    hosts.service.restart(Signal::SIGKILL);
    eventually("it is still doubtful", || listed(hosts.service.daemon()).contains(" doubtful "));
    assert!(is_alive(guest.process.id()), "nothing ends it");
    guest.process.kill().expect("killing");
    guest.process.wait().expect("waiting");
}

fn after_a_crash_leases_are_proved_by_an_answer_in_time(subject: Subject) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut hosts) = Hosts::start(subject, "end") else { return };
    let guest = hosts.pair.start_guest(hosts.service.daemon());
    hosts.wait_until_stored();
    hosts.service.restart(Signal::SIGKILL);
    eventually("an answer proves it", || listed(hosts.service.daemon()).contains(" yes "));
    thread::sleep(Duration::from_millis(3000));
    let said = hosts.service.daemon().stderr();
    assert!(is_alive(guest.process.id()) && !said.contains("not proved any more"), "{said}");
}
