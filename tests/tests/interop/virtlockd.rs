//! virtlockd between libvirtd and real guests. The same scenarios run with libvirt's virtlockd
//! and with ours.

use tests::harness::Whose;
use tests::interop::{BootSector, Disk, Guest, Host, Setup, Sharing, on_host, wait_for};
use tests::scenario;

const IMAGE: &str = "/var/lib/libvirt/images/shared.img";
const OTHER_IMAGE: &str = "/var/lib/libvirt/images/other.img";
const IMAGE_BYTES: usize = 1 << 20;

/// Leases are taken on the images themselves.
const DIRECT: Setup<'_> = Setup { virtlogd_conf: "", locking: true, qemu_lockd_conf: "" };

/// Leases are taken on files in a directory, as hosts that share it over a network do.
const INDIRECT: Setup<'_> =
    Setup { qemu_lockd_conf: "file_lockspace_dir = \"/var/lib/libvirt/lockspace\"\n", ..DIRECT };
const LOCKSPACE: &str = "/var/lib/libvirt/lockspace";

/// QEMU without image locking of its own, which would speak up before virtlockd is asked.
const EMULATOR: &str = "/run/qemu-without-locking";
const EMULATOR_SCRIPT: &str = r#"#!/bin/bash
exec qemu-system-x86_64 "${@//'{"driver":"file",'/'{"driver":"file","locking":"off",'}"
"#;

/// Prepares the images and QEMU's stand-in.
fn prepare(host: &Host) {
    for image in [IMAGE, OTHER_IMAGE] {
        host.write(image, vec![0; IMAGE_BYTES]);
    }
    host.write(EMULATOR, EMULATOR_SCRIPT);
    host.run("chmod", &["755", EMULATOR]);
}

fn guest(name: &str) -> Guest {
    Guest::new(name, BootSector::ticking(*b"alfa")).emulator(EMULATOR)
}

/// Defines two guests with the same disk.
fn define_two(host: &Host, disk: Disk<'_>) {
    prepare(host);
    for name in ["alfa", "beta"] {
        host.system().define(&guest(name).disk(disk));
    }
}

fn assert_busy(error: &str, resource: &str) {
    let busy = format!("error: resource busy: Lockspace resource '{resource}' is locked");
    assert!(error.contains(&busy), "no {busy:?} in:\n{error}");
}

scenario!(second_guest_on_an_image_is_refused_until_the_first_is_gone, DIRECT, |host| {
    define_two(host, Disk::exclusive(IMAGE));
    host.system().run(&["start", "alfa"]);
    assert_busy(&host.system().refused(&["start", "beta"]), IMAGE);
    assert_eq!(host.system().qemu_status("alfa"), "VM status: running");

    host.system().run(&["destroy", "alfa"]);
    host.system().run_eventually(&["start", "beta"]);
    assert_busy(&host.system().refused(&["start", "alfa"]), IMAGE);
});

scenario!(shareable_disks_are_shared_among_those_who_say_so, DIRECT, |host| {
    let shareable = Disk::exclusive(IMAGE).sharing(Sharing::Shareable);
    define_two(host, shareable);
    host.system().run(&["start", "alfa"]);
    host.system().run(&["start", "beta"]);
    host.system().define(&guest("gamma").disk(Disk::exclusive(IMAGE)));
    assert_busy(&host.system().refused(&["start", "gamma"]), IMAGE);

    host.system().run(&["destroy", "alfa"]);
    assert_busy(&host.system().refused(&["start", "gamma"]), IMAGE);
    host.system().run(&["destroy", "beta"]);
    host.system().run_eventually(&["start", "gamma"]);
});

scenario!(readonly_disks_are_not_locked, DIRECT, |host| {
    define_two(host, Disk::exclusive(IMAGE).sharing(Sharing::Readonly));
    host.system().run(&["start", "alfa"]);
    host.system().run(&["start", "beta"]);
    host.system().launch(&guest("gamma").disk(Disk::exclusive(IMAGE)));
});

scenario!(suspended_guest_holds_no_lease_and_resumes_when_it_gets_it_back, DIRECT, |host| {
    define_two(host, Disk::exclusive(IMAGE));
    host.system().run(&["start", "alfa"]);
    host.system().run(&["suspend", "alfa"]);
    host.system().run(&["start", "beta"]);
    assert_busy(&host.system().refused(&["resume", "alfa"]), IMAGE);
    assert_eq!(host.system().state("alfa"), "paused");

    host.system().run(&["destroy", "beta"]);
    host.system().run_eventually(&["resume", "alfa"]);
    assert_eq!(host.system().qemu_status("alfa"), "VM status: running");
    assert_busy(&host.system().refused(&["start", "beta"]), IMAGE);
});

scenario!(plugging_and_unplugging_a_disk_takes_and_frees_its_lease, DIRECT, |host| {
    prepare(host);
    let disk = Disk::exclusive(IMAGE);
    let xml = "/run/disk.xml";
    host.write(xml, disk.xml());
    host.system().launch(&guest("alfa"));
    host.system().define(&guest("beta").disk(disk));

    host.system().run(&["attach-device", "alfa", xml]);
    assert_busy(&host.system().refused(&["start", "beta"]), IMAGE);
    host.system().run(&["detach-device", "alfa", xml]);
    host.system().run_eventually(&["start", "beta"]);
    assert_busy(&host.system().refused(&["attach-device", "alfa", xml]), IMAGE);
});

scenario!(snapshot_moves_the_lease_to_the_new_image, DIRECT, |host| {
    define_two(host, Disk::exclusive(IMAGE));
    host.system().run(&["start", "alfa"]);
    let overlay = "/var/lib/libvirt/images/overlay.qcow2";
    let disk = format!("sdb,file={overlay}");
    host.system().run(&[
        "snapshot-create-as",
        "alfa",
        "--disk-only",
        "--no-metadata",
        "--diskspec",
        &disk,
        "--diskspec",
        "vda,snapshot=no",
    ]);

    host.system()
        .define(&guest("gamma").disk(Disk { format: "qcow2", ..Disk::exclusive(overlay) }));
    assert_busy(&host.system().refused(&["start", "gamma"]), overlay);
    // The image below is no longer written to, and is free.
    host.system().run(&["start", "beta"]);
});

scenario!(guest_killed_by_the_kernel_loses_its_lease, DIRECT, |host| {
    define_two(host, Disk::exclusive(IMAGE));
    host.system().run(&["start", "alfa"]);
    host.signal("KILL", host.pid(&guest("alfa").pid_file()));
    host.system().wait_until_off("alfa");
    host.system().run_eventually(&["start", "beta"]);
});

scenario!(leases_in_a_lockspace_directory_have_hashed_names, INDIRECT, |host| {
    host.run("mkdir", &["-p", LOCKSPACE]);
    define_two(host, Disk::exclusive(IMAGE));
    let sum = host.run("sh", &["-c", &format!("printf %s {IMAGE} | sha256sum")]);
    let name = sum.split(' ').next().expect("a checksum");
    let lease = format!("{LOCKSPACE}/{name}");

    host.system().run(&["start", "alfa"]);
    assert!(host.exists(&lease));
    assert_busy(&host.system().refused(&["start", "beta"]), name);
    host.system().run(&["destroy", "alfa"]);
    wait_for("the lease's file to be removed", || (!host.exists(&lease)).then_some(()));
    host.system().run(&["start", "beta"]);
});

scenario!(leases_outlive_libvirtd, DIRECT, |host| {
    define_two(host, Disk::exclusive(IMAGE));
    host.system().run(&["start", "alfa"]);
    host.restart_libvirtd();
    assert_eq!(host.system().qemu_status("alfa"), "VM status: running");
    assert_busy(&host.system().refused(&["start", "beta"]), IMAGE);

    host.system().run(&["destroy", "alfa"]);
    host.system().run_eventually(&["start", "beta"]);
});

scenario!(no_guest_runs_on_without_its_lease_when_virtlockd_is_stopped, DIRECT, |host| {
    prepare(host);
    let holder = guest("alfa").disk(Disk::exclusive(IMAGE));
    let pid_file = holder.pid_file();
    host.system().launch(&holder);
    let qemu = host.pid(&pid_file);
    host.end("TERM", "/run/virtlockd.pid");
    wait_for("the end of the guest", || (!host.has_process(qemu)).then_some(()));
});
