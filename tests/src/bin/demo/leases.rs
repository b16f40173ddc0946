//! What virtlockd does: of two guests that want one disk, one gets it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use crate::daemon::Daemon;
use crate::failure::{Failure, promised};
use crate::guest::DiskUser;
use crate::role::Role;
use crate::{DEADLINE, PAUSE, title};

/// Shows it.
pub(crate) fn show(scratch: &Path) -> Result<(), Failure> {
    title("3  virtlockd gives one disk to one guest");
    let mut virtlockd = Daemon::start(Role::Virtlockd, scratch, "")?;
    println!("virtlockd runs: pid {}, socket {}", virtlockd.pid(), virtlockd.socket().display());
    let (image, link) = (scratch.join("disk.img"), scratch.join("link-to-disk.img"));
    fs::write(&image, [0; 512])
        .and_then(|()| symlink(&image, &link))
        .map_err(|error| Failure::system("making a disk image", error))?;
    let mut gamma = DiskUser::start("gamma", virtlockd.socket())?;
    let mut delta = DiskUser::start("delta", virtlockd.socket())?;
    println!("Guest gamma runs: pid {}; guest delta runs: pid {}\n", gamma.pid(), delta.pid());
    granted(&mut gamma, &image)?;
    println!("gamma asks for disk.img: granted");
    println!("delta asks for disk.img: {}", refused(&mut delta, &image)?);
    println!("delta asks for link-to-disk.img: {}", refused(&mut delta, &link)?);
    println!("virtlockd's own log adds: {}\n", holder(&virtlockd, gamma.pid())?);
    show_upgrade(&mut virtlockd, &mut delta, &image)?;
    println!("virtlockd's own log adds: {}\n", holder(&virtlockd, gamma.pid())?);
    show_takeover(gamma, &mut delta, &image)?;
    delta.kill()?;
    virtlockd.terminate()?;
    virtlockd.wait()?;
    println!("delta was killed too; virtlockd was sent SIGTERM and ended with success.");
    Ok(())
}

/// The lease, and the connection of the one that wants it, outlive the program that serves them.
fn show_upgrade(virtlockd: &mut Daemon, other: &mut DiskUser, image: &Path) -> Result<(), Failure> {
    let pid = virtlockd.pid();
    let period = virtlockd.upgrade()?;
    println!("virtlockd was told to execute its successor (SIGUSR1);");
    println!("{period:.1?} later that runs, still as pid {pid}.");
    println!("delta asks for disk.img: {}", refused(other, image)?);
    Ok(())
}

/// The holder dies without giving anything back, and the other one gets the disk.
fn show_takeover(holder: DiskUser, other: &mut DiskUser, image: &Path) -> Result<(), Failure> {
    holder.kill()?;
    println!("gamma was killed (SIGKILL), without a chance to give the disk back.");
    let begin = Instant::now();
    while let Err(message) = other.ask(image)? {
        promised(begin.elapsed() < DEADLINE, format!("a dead guest's disk stays: {message}"))?;
        std::thread::sleep(PAUSE);
    }
    println!("delta asks for disk.img: granted, {:.1?} later", begin.elapsed());
    Ok(())
}

fn granted(guest: &mut DiskUser, image: &Path) -> Result<(), Failure> {
    guest
        .ask(image)?
        .map_err(|message| Failure::Refused { what: "a disk that nobody has", message })
}

/// What the refusal says, which has to be libvirt's text.
fn refused(guest: &mut DiskUser, image: &Path) -> Result<String, Failure> {
    let Err(message) = guest.ask(image)? else {
        return Err(Failure::Promise("two guests have one disk".into()));
    };
    let expected = format!("resource busy: Lockspace resource '{}' is locked", image.display());
    promised(message == expected, format!("a disk was refused with: {message}"))?;
    Ok(format!("refused\n  \"{message}\""))
}

/// Returns the holder that the daemon's log names at the end of a refusal. A thread writes the log,
/// maybe after the answer.
fn holder(virtlockd: &Daemon, pid: u32) -> Result<String, Failure> {
    let end = Instant::now() + DEADLINE;
    loop {
        let messages = virtlockd.messages();
        let said = messages.lines().next_back().and_then(|line| line.rsplit(": ").next());
        if let Some(said) = said.filter(|said| said.contains(&format!("pid {pid})"))) {
            return Ok(said.to_owned());
        }
        if Instant::now() >= end {
            let reason = format!("virtlockd's log does not say who: {messages}");
            return Err(Failure::Promise(reason));
        }
        std::thread::sleep(PAUSE);
    }
}
