//! Pods as those of `KubeVirt`, with the holder beside virtlogd: one guest a pod.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Daemon, Host, Subject, eventually, needs_root};
use tests::holder::{Cgroup, pod};
use tests::wire::LogClient;

use crate::containers::{cgroup, expect_no_kill};
use crate::load::{Logs, Size, in_box, kill_holder, rounds};

tests::ours! { Virtlogd: pods_whose_virtlogd_is_killed, a_pod_whose_holder_is_killed_with_virtlogd }

/// Memory of virtlogd in each pod of `KubeVirt`, in bytes. Here it is for all that runs beside the
/// guest.
const MEMORY_BYTES_MAX: u64 = 25 << 20;

/// The holder's own fds, those of a pod's logs, and the journal.
const FDS_MIN: usize = 16;

/// Logs of a guest in a pod.
const LOGS: usize = 5;

struct Pod {
    launcher: Daemon,
    host: Arc<Host>,
    cgroup: Option<Arc<Cgroup>>,
}

fn pods_whose_virtlogd_is_killed(subject: Subject) {
    if !needs_root("pods as those of KubeVirt") {
        return;
    }
    let size = Size { logs: LOGS, tenants: 0 }.or_full();
    let pods: Vec<_> = (0..size.logs / LOGS).map(|_| Pod::start(subject)).collect();
    pods.iter().for_each(Pod::expect_confined);
    let begin = |pod: &Pod| Logs::begin_at(&pod.host.path("files"), &pod.socket(), LOGS);
    let logs: Vec<_> = pods.iter().map(begin).collect();
    for _ in 0..rounds() {
        for _ in 0..2 {
            let before: Vec<_> = pods.iter().map(Pod::kill_virtlogd).collect();
            pods.iter().zip(before).for_each(|(pod, before)| pod.wait_for_another(before));
        }
        // The holder alone: virtlogd stores its fds with the next one.
        thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| pod.kill_holder());
            }
        });
    }
    let before: Vec<_> = pods.iter().map(Pod::kill_virtlogd).collect();
    pods.iter().zip(before).for_each(|(pod, before)| pod.wait_for_another(before));
    logs.into_iter().for_each(Logs::finish);
    for cgroup in pods.iter().filter_map(|pod| pod.cgroup.as_ref()) {
        expect_no_kill("a pod", cgroup);
    }
}

/// Loses its logs, as `systemd/README.md` says: no process has their fds any more.
fn a_pod_whose_holder_is_killed_with_virtlogd(subject: Subject) {
    if !needs_root("a pod as that of KubeVirt") {
        return;
    }
    let pod = Pod::start(subject);
    let path = pod.host.path("files/lost.log");
    let mut client = LogClient::connect(&pod.socket()).unwrap();
    let mut pipe: File = client.open(&path).unwrap().pipe;
    for name in ["virtfdhold", "virtlogd"] {
        let [(pid, _)] = in_box(name, &pod.launcher)[..] else { panic!("one {name}") };
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    eventually("the pipe is closed", || {
        pipe.write_all(b"x").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    });
    // Guests that begin later are served.
    eventually("virtlogd serves", || {
        LogClient::connect(&pod.socket()).is_ok_and(|mut client| client.open(&path).is_ok())
    });
}

impl Pod {
    /// Starts one, and waits until virtlogd serves.
    fn start(subject: Subject) -> Self {
        let host = Host::new();
        let cgroup = cgroup("a pod of KubeVirt", MEMORY_BYTES_MAX);
        let origin = pod(&host, cgroup.clone());
        let (program, arguments) = origin.command.split_first().unwrap();
        let join = cgroup.as_ref().map(|cgroup| cgroup.join()).unwrap_or_default();
        let setup = subject.setup_on(&host).prepare(&join).prepare(&origin.preparation);
        let setup = setup.through(origin.through).instead(program.as_ref()).args(arguments);
        let pod = Self { launcher: setup.spawn(), host, cgroup };
        eventually("virtlogd serves", || {
            pod.launcher.expect_alive();
            pod.socket().exists() && pod.serves()
        });
        pod
    }

    fn socket(&self) -> PathBuf {
        self.host.path("user/run/libvirt/virtlogd-sock")
    }

    fn serves(&self) -> bool {
        let no_log = self.host.path("files/no.log");
        LogClient::connect(&self.socket()).is_ok_and(|mut client| client.position(&no_log).is_err())
    }

    /// virtlogd is an ordinary user without privileges, in a root directory that nobody can write to
    /// and that has no `/proc/sys`.
    #[track_caller]
    fn expect_confined(&self) {
        let pid = self.virtlogd();
        let process = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(process.join("status")).unwrap();
        assert!(status.contains("CapEff:\t0000000000000000\n"), "{status}");
        assert!(status.contains("Seccomp:\t2\n"), "{status}");
        let map = fs::read_to_string(process.join("uid_map")).unwrap();
        assert!(map.trim_start().starts_with("107 "), "{map}");
        let error = fs::write(process.join("root/usr/x"), "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::read_dir(process.join("root/proc/sys")).unwrap().count(), 0);
        let is_in = |cgroup: &Arc<Cgroup>| cgroup.processes().contains(&pid);
        assert!(self.cgroup.as_ref().is_none_or(is_in), "{:?}", self.cgroup);
    }

    /// Kills the holder while virtlogd serves a log, and waits for the next one, which gets all.
    fn kill_holder(&self) {
        let mut client = LogClient::connect(&self.socket()).unwrap();
        client.position(&self.host.path("files/0.log")).expect("the log goes on");
        kill_holder(&self.launcher, FDS_MIN);
    }

    /// Kills virtlogd, and returns its pid.
    fn kill_virtlogd(&self) -> i32 {
        let pid = self.virtlogd();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        pid
    }

    fn virtlogd(&self) -> i32 {
        let [(pid, _)] = in_box("virtlogd", &self.launcher)[..] else { panic!("one virtlogd") };
        pid
    }

    fn wait_for_another(&self, before: i32) {
        eventually("another virtlogd", || {
            let found = in_box("virtlogd", &self.launcher);
            found.len() == 1 && found[0].0 != before
        });
    }
}
