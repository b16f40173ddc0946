use std::process::Command;

use common::sys::pid_namespace;

use super::*;

#[test]
fn we_number_processes_as_we_do() {
    let own = std::process::id().cast_signed();
    let (pidfd, depth) = (pidfd::open(own), pid_namespace::own_depth().unwrap());
    assert!(matches!(numbering(own, &pidfd, depth), Numbering::Ours));
    assert!(matches!(numbering(own, &pidfd, depth + 1), Numbering::Other(Some(_))));
    // As where /proc shows a namespace above.
    assert!(matches!(numbering(0, &pidfd, depth), Numbering::Other(Some(number)) if number == own));
    let nobody = Err(Errno::ESRCH.into());
    assert!(matches!(numbering(0, &nobody, depth), Numbering::Other(None)));
    assert!(matches!(numbering(own, &nobody, depth), Numbering::Ended));
    let refused = Err(Errno::EPERM.into());
    assert!(matches!(numbering(own, &refused, depth), Numbering::Ours));
    // An old kernel does not tell.
    let is_told = pidfd::namespace(pidfd.as_ref().unwrap()).is_ok();
    assert_eq!(matches!(by_namespace(&pidfd), Some(Numbering::Ours)), is_told);
    assert!(by_namespace(&refused).is_none());
}

#[test]
fn a_process_is_of_the_namespace_in_which_it_has_its_last_pid() {
    const DEPTH: usize = 2;
    let unknown = Err(Errno::EPERM.into());
    let told = |numbers: &[i32]| by_numbers(Ok(numbers.to_vec()), &unknown, DEPTH);
    assert!(matches!(told(&[]), Numbering::Ended));
    assert!(matches!(told(&[7, 3]), Numbering::Ours));
    assert!(matches!(told(&[7]), Numbering::Other(Some(7))));
    assert!(matches!(told(&[7, 3, 1]), Numbering::Other(Some(1))));
    assert!(matches!(told(&[0, 3]), Numbering::Other(None)), "it is outside");
    let own = pidfd::open(std::process::id().cast_signed());
    for pidfd in [&own, &unknown] {
        for errno in [Errno::EMFILE, Errno::EIO] {
            let is_told = errno == Errno::EIO && by_namespace(pidfd).is_some();
            let numbering = by_numbers(Err(errno.into()), pidfd, DEPTH);
            assert_eq!(matches!(numbering, Numbering::Ours), is_told);
            assert_eq!(matches!(numbering, Numbering::Unknown(_)), !is_told);
        }
    }
}

#[test]
fn of_a_process_that_has_ended_nothing_can_be_told() {
    let mut child = Command::new("true").spawn().unwrap();
    let (peer, depth) = (child.id().cast_signed(), pid_namespace::own_depth().unwrap());
    let pidfd = pidfd::open(peer);
    child.wait().unwrap();
    assert!(matches!(numbering(peer, &pidfd, depth), Numbering::Ended));
}

#[test]
fn who_registers_its_own_pid_is_the_guest() {
    use FoundBy::{Connection, Number, Unidentified};
    use Numbering::{Ended, Other, Ours};
    let unknown = || Numbering::Unknown(Errno::EIO.into());
    for (numbering, peer, pid, is_restricted, found_by, is_guest) in [
        (Ours, 7, 7, false, Number, true),
        (Ours, 7, 8, true, Number, false),
        (Ours, 0, 0, true, Number, false),
        (Ended, 7, 7, false, Number, true),
        (Ended, 7, 8, true, Unidentified, false),
        (Other(Some(3)), 7, 3, false, Connection { number: Some(7) }, true),
        (Other(Some(3)), 0, 3, false, Connection { number: None }, true),
        (Other(Some(3)), 7, 7, true, Unidentified, false),
        (Other(None), 7, 9, true, Connection { number: Some(7) }, true),
        (Other(None), 7, 9, false, Unidentified, false),
        (Other(None), 7, 0, true, Unidentified, false),
        (unknown(), 7, 7, false, Number, true),
        (unknown(), 7, 8, true, Number, false),
    ] {
        let peer = (peer, Err(Errno::EPERM.into()));
        let registrant = Registrant::numbered(numbering, peer, pid, is_restricted);
        let found = (registrant.identity.found_by, registrant.is_guest);
        assert_eq!(found, (found_by, is_guest), "{pid}");
    }
}

/// Looks up a guest that this process may have registered.
fn found(is_guest: bool, found_by: FoundBy, numbering_error: Option<Errno>) -> Lookup {
    let own = std::process::id();
    let registrant = Registrant {
        identity: OwnerIdentity { found_by, ..OwnerIdentity::UNIDENTIFIED },
        is_guest,
        pidfd: pidfd::open(own.cast_signed()),
        numbering_error: numbering_error.map(io::Error::from),
    };
    registrant.find(own)
}

#[test]
fn a_guest_is_looked_up_as_its_registrant_numbers_processes() {
    use FoundBy::{Number, Unidentified};
    for (is_guest, found_by, numbering_error, is_found) in [
        (true, Number, None, true),
        (false, Number, None, true),
        (false, Unidentified, None, false),
        (true, Number, Some(Errno::EIO), true),
        (false, Number, Some(Errno::EIO), false),
        // It can be told later.
        (true, Number, Some(Errno::EMFILE), false),
    ] {
        let found = found(is_guest, found_by, numbering_error);
        let is_as_expected = match &found {
            Lookup::Process(_) => is_found,
            Lookup::Unknown(error) => {
                !is_found
                    && numbering_error
                        .is_none_or(|errno| error.raw_os_error() == Some(errno as i32))
            }
            Lookup::Dead => false,
        };
        assert!(is_as_expected, "{is_guest} {found_by:?} {numbering_error:?}: {found:?}");
    }
}
