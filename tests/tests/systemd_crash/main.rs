//! What becomes of guests when our daemons are killed, restarted, stopped, started and replaced
//! under a real systemd: nothing.
//!
//! `VIRT_TESTS_KILLS` has the tests that kill at random moments do so that many times in place of
//! [20](kills::COUNT), `VIRT_TESTS_SEED` has them repeat a run: each prints its seed.

mod calls;
mod figures;
mod guests;
mod kills;
mod last_words;
mod leases;
mod libvirt;
mod logs;
mod moves;
mod owners;
mod packages;
mod real_moves;
mod rotation;
mod service;
mod stops;
mod store;
mod strangers;
mod swap;
