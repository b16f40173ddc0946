//! Live upgrade: a daemon becomes another one in the same process, by SIGUSR1. `theirs` says what
//! libvirt's daemons do among themselves, `ours` what ours do, `mixed` what happens on the way from
//! libvirt's to ours and back.
//!
//! `VIRT_TESTS_HOPS` has the journeys take so many upgrades in place of their own number.

mod damaged_leases;
mod documents;
mod edited_state;
mod endings;
mod guests;
mod hard_cases;
mod in_flight;
mod journey;
mod leases;
mod lies;
mod lockspaces;
mod logs;
mod lost_leases;
mod names;
mod owners;
mod refused;
mod run_directory;
mod signals;
mod strays;
mod surroundings;
mod threads;
