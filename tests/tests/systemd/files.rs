//! What the hardened units must not keep the daemons from: logs and images anywhere, guests of
//! other users.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{Gid, Uid, setgid, setuid};
use tests::harness::{Program, eventually, expect_file, guest_writes, left_out};
use tests::machine::{drop_in, enable, main_socket, succeed, systemctl};
use tests::wire::{LockClient, LogClient, Owner};

tests::on_machine! { Ours:
    logs_are_written_anywhere,
    images_are_leased_anywhere,
    block_devices_are_leased,
    guests_of_other_users_are_ended,
}

/// Who QEMU may run as, and owns directories that root has no business in but for its privileges.
const OTHER_UID: u32 = 64_055;

/// Names the image of [`stand_in`].
const IMAGE: &str = "VIRT_TESTS_IMAGE";

fn logs_are_written_anywhere() {
    enable(Program::Virtlogd);
    let mut client = LogClient::connect(&main_socket(Program::Virtlogd)).unwrap();
    client.open(Path::new("/srv/first.log")).unwrap();
    for directory in places() {
        let file = directory.join("guest.log");
        let log = client.open(&file).unwrap_or_else(|error| panic!("{file:?}: {error:?}"));
        guest_writes(&log.pipe, "a line\n");
        expect_file(&file, "a line\n");
        // Renaming and removing are allowed as well.
        drop(log);
        let truncated = client.open_with(file.to_str().unwrap().as_bytes(), 1);
        truncated.unwrap_or_else(|error| panic!("{file:?}: {error:?}"));
    }
}

fn images_are_leased_anywhere() {
    let mut client = registered_lock_client();
    for directory in places() {
        let image = directory.join("disk.img");
        fs::write(&image, "").unwrap();
        fs::set_permissions(&image, Permissions::from_mode(0o600)).unwrap();
        chown(&image, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
        expect_lease(&mut client, &image);
    }
}

fn block_devices_are_leased() {
    let mut client = registered_lock_client();
    fs::write("/srv/disk", vec![0; 1 << 20]).unwrap();
    let losetup = Command::new("losetup").args(["--find", "--show", "/srv/disk"]).output().unwrap();
    if !losetup.status.success() {
        let reason = String::from_utf8_lossy(&losetup.stderr);
        return left_out("a lease on a block device", &reason);
    }
    let device = PathBuf::from(String::from_utf8(losetup.stdout).unwrap().trim_end());
    // From here on the device goes with the last that has it open, whatever becomes of us.
    let _open = File::open(&device).unwrap();
    succeed("losetup", &["--detach", device.to_str().unwrap()]);
    expect_lease(&mut client, &device);
}

/// Without an fd store a stop ends those who depend on the daemon.
fn guests_of_other_users_are_ended() {
    drop_in(
        "virtlockd.service",
        "[Service]\nFileDescriptorStoreMax=0\nFileDescriptorStorePreserve=no\n",
    );
    let mut client = registered_lock_client();
    fs::write("/srv/disk.img", "").unwrap();
    let mut guest = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stand_in", "--ignored"])
        .env(IMAGE, "/srv/disk.img")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it has another user", || {
        let status = fs::read_to_string(format!("/proc/{}/status", guest.id())).unwrap();
        status.contains(&format!("Uid:\t{OTHER_UID}\t"))
    });
    client.register(&Owner::of(guest.id()), 0).unwrap();
    client.acquire("", "/srv/disk.img", 0).unwrap();
    systemctl(&["stop", "virtlockd.service"]);
    eventually("the guest is ended", || guest.try_wait().unwrap().is_some());
}

/// The program of a guest: connected for itself as root, and then another user's.
#[test]
#[ignore = "not a test: another test runs it as a process of its own"]
fn stand_in() {
    if std::env::var_os(IMAGE).is_none() {
        return;
    }
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    client.register(&Owner::of(std::process::id()), 0).unwrap();
    client.restrict(0).unwrap();
    setgid(Gid::from_raw(OTHER_UID)).unwrap();
    setuid(Uid::from_raw(OTHER_UID)).unwrap();
    std::io::stdin().lines().for_each(drop);
}

/// Directories of all kinds, one of them on a file system that is mounted now, after the start of
/// the daemon, and two that nobody but another user may enter.
fn places() -> Vec<PathBuf> {
    fs::create_dir_all("/mnt/late").unwrap();
    succeed("mount", &["-t", "tmpfs", "tmpfs", "/mnt/late"]);
    let directories = [
        "/home/somebody",
        "/root/guests",
        "/srv/guests",
        "/mnt/late/guests",
        "/var/lib/nova/instances",
        "/opt/guests",
        "/usr/local/guests",
        "/tmp/guests",
        "/dev/shm/guests",
        "/guests",
    ];
    for directory in directories {
        fs::create_dir_all(directory).unwrap();
    }
    for directory in ["/home/somebody", "/var/lib/nova/instances"] {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
        chown(directory, Some(OTHER_UID), Some(OTHER_UID)).unwrap();
    }
    directories.map(PathBuf::from).to_vec()
}

/// A client whose owner is a process that lives as long as the machine.
fn registered_lock_client() -> LockClient {
    enable(Program::Virtlockd);
    let mut client = LockClient::connect(&main_socket(Program::Virtlockd)).unwrap();
    client.register(&Owner::of(1), 0).unwrap();
    client
}

#[track_caller]
fn expect_lease(client: &mut LockClient, image: &Path) {
    let name = image.to_str().unwrap();
    client.acquire("", name, 0).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert!(is_leased(image), "{name}");
    client.release("", name, 0).unwrap();
    assert!(!is_leased(image), "{name}");
}

/// Whether somebody holds byte 0.
fn is_leased(image: &Path) -> bool {
    let file = File::options().read(true).write(true).open(image).unwrap();
    let range = nix::libc::flock {
        l_type: nix::libc::F_WRLCK.try_into().unwrap(),
        l_whence: 0,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&range)).is_err()
}
