//! Daemons in user namespaces, as in rootless containers: root in there is an ordinary user to a
//! holder on the host.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::guest::Guest;
use tests::harness::{Host, Program, Subject, Whose, eventually, left_out, needs_root, ours};
use tests::holder::{Client, Held, Holder, Origin, copy_of_executable, set_directory};
use tests::load::{Contender, is_free};

tests::ours! { Virtlogd: leases_of_a_daemon_in_a_user_namespace_stay, a_set_is_for_the_user_that_the_kernel_names }

/// Users of the host who are root in their containers.
const USER: u32 = 100_000;
const STRANGER: u32 = 200_000;

/// A wrong grant would come within this time.
const SILENCE: Duration = Duration::from_millis(300);

fn leases_of_a_daemon_in_a_user_namespace_stay(_: Subject) {
    let (program, name) = (Program::Virtlockd, "virtlockd");
    if !needs_root("a daemon in a user namespace") {
        return;
    }
    let host = Host::new();
    let (socket, image) = (host.path("run/libvirt/virtlockd-sock"), host.path("files/disk.img"));
    std::fs::write(&image, "image").unwrap();
    for path in [host.path("run"), image.clone()] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    let listen =
        format!("--listen={name}:{name}.socket={},uid={USER},gid={USER}", socket.display());
    let arguments = vec![format!("--set={name},uid={USER}"), listen];
    let _holder = Holder::start_with(&host, None, arguments);
    let mut daemon = Held::spawn_from(rootless(program, &host), program, &host);
    let images = [image.to_str().unwrap().to_owned()];
    let guest = |images| Guest::start_as_user(USER, &host.path("bin/guest"), &socket, images);
    let mut guest_with_lease = guest(&images);
    let uids = format!("{USER}\t{USER}\t{USER}\t{USER}");
    assert_eq!(daemon.daemon().status_field("Uid"), uids);
    let contender = Contender::start(&images);
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        daemon.end(signal);
        daemon.spawn();
        // The next one serves.
        guest(&[]).tell("call");
    }
    contender.finish();
    assert!(guest_with_lease.is_running() && !is_free(&images[0]));
    guest_with_lease.kill();
    eventually("the lease of an ended guest is free", || is_free(&images[0]));
}

fn a_set_is_for_the_user_that_the_kernel_names(_: Subject) {
    if !needs_root("sets of users in user namespaces") {
        return;
    }
    if !Path::new("/usr/bin/systemd-notify").exists() {
        return left_out("sets of users in user namespaces", "there is no systemd-notify");
    }
    let host = Host::new();
    let sets = ["own,uid=100000", "beside,uid=100000"].map(|set| format!("--set={set}"));
    let holder = Holder::start_with(&host, None, sets.to_vec());
    let says = r#"systemd-notify --ready; echo "$LISTEN_FDS $(id -u)"; exec sleep 60"#;
    let mut daemon = asking(&host, "own", USER, says);
    assert_eq!(line(&mut daemon), "0 0");
    // Another mapping does not even reach the socket. The host's root does, and is refused.
    let refused = format!("of user 0 may not have this set: it is that of user {USER}");
    for (uid, wanted) in [(STRANGER, "Permission denied"), (0, &refused)] {
        let output = asking(&host, "own", uid, says).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(wanted) && output.stdout.is_empty(), "{said}");
    }
    // The same mapping has its own set, and neither gets this one nor changes what is in it.
    let mut beside = asking(&host, "beside", USER, says);
    assert_eq!(line(&mut beside), "0 0");
    let mut told = command(USER, &["systemd-notify", "FDSTOREREMOVE=1", "FDNAME=l1"]);
    told.env("NOTIFY_SOCKET", set_directory(&host, "own").join("messages")).status().unwrap();
    let ignored = format!("of user {USER}, which has not this set");
    holder.process().expect_said(&ignored);
    let mut thief = asking(&host, "own", USER, says);
    sleep(SILENCE);
    assert!(thief.try_wait().unwrap().is_none(), "the set of a daemon that runs was given away");
    [daemon, beside, thief].into_iter().for_each(end);
    // Nor has the host's root a word in it when nobody has it.
    let root = Client::of(&set_directory(&host, "own"));
    root.store("planted", std::fs::File::open("/dev/null").unwrap());
    let mut next = asking(&host, "own", USER, says);
    assert_eq!(line(&mut next), "0 0");
    end(next);
}

/// A daemon that is root in a user namespace of this user's.
fn rootless(program: Program, host: &Arc<Host>) -> Origin {
    let daemon = host.put(Subject { whose: Whose::Ours, program }).display().to_string();
    let set = set_directory(host, program.name()).display().to_string();
    let holder = copy_of_executable(host).display().to_string();
    let command = [holder.as_str(), "exec", &set, "--", &daemon].map(str::to_owned).into();
    Origin { through: words(USER), command, ..Origin::default() }
}

/// Words that execute a command as this user, who is root in a user namespace; or as the host's root.
fn words(uid: u32) -> Vec<String> {
    if uid == 0 {
        return vec!["env".to_owned()];
    }
    let ids = [format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()];
    let namespace = ["unshare", "--user", "--map-root-user"].map(str::to_owned);
    [vec!["setpriv".to_owned()], ids.to_vec(), namespace.to_vec()].concat()
}

fn command(uid: u32, command: &[&str]) -> Command {
    let words = words(uid);
    let mut process = Command::new(&words[0]);
    process.args(&words[1..]).args(command).stdin(Stdio::null());
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    process
}

/// A process that takes a set as this user, waiting some seconds for the holder, and then does this.
fn asking(host: &Host, set: &str, uid: u32, shell: &str) -> Child {
    let holder = host.path("bin/client");
    if !holder.exists() {
        let copied = Command::new("cp").arg(ours("virtfdhold")).arg(&holder).status();
        assert!(copied.unwrap().success());
    }
    let (holder, set) = (holder.display().to_string(), set_directory(host, set));
    let set = set.display().to_string();
    let words = [&holder, "exec", "--wait=5", &set, "--", "sh", "-c", shell];
    command(uid, &words).spawn().unwrap()
}

fn line(process: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}
