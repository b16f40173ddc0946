//! Walks through faults that come together: seeded, random, checked against a model after each
//! step.
//!
//! A walk is one of virtlogd or of virtlockd. Guests and their managers do what they do, the process is
//! stopped, killed and upgraded, and meanwhile disks, the supervisor and its fd store have their
//! faults, several at a time. What must hold is simple: each log has every line once and in
//! order, or tells how many bytes were lost; each lease has one holder, by the daemon's word and the
//! kernel's; no guest waits; what is in the store is what the journal claims. What the store could not
//! take is treated as without one, and the stand-in for the supervisor can be asked what that is.
//!
//! In walks of [rivals](Course::Rivals) nothing is wrong with the machine. There guests, their managers
//! and strangers all want the same disks, by all names that these have: hard and symbolic links, `..`,
//! bind mounts, lockspaces over one directory. Guests are processes that may ignore SIGTERM, stand
//! still, leave their connections to children and have the pids of dead ones; files are replaced and
//! removed; processes that are no clients lock them. One file, `rivals/owed.rs`, says what is owed for
//! each thing that is done; whether that is true is seen by libvirt's own daemon, which is walked with
//! too. After each step the daemon's answer, the kernel's locks and who lives are compared with it, and
//! while an image changes somebody tries without pause to lock every file that is leased.
//!
//! Each walk takes place in mount, pid and network namespaces of its own and takes a second or
//! two. One that fails is shown with its seed and its steps, and then with as few steps as will do.
//!
//! `cargo test -p tests --test compound_faults --test rivals` does a few walks with fixed seeds. By hand:
//!
//! ```text
//! VIRT_TESTS_WALKS=2000 VIRT_TESTS_SEED=fresh VIRT_TESTS_PARALLEL=4 \
//!     cargo test -p tests --test compound_faults virtlogd
//! VIRT_TESTS_WALKS=500 VIRT_TESTS_STEPS=500 VIRT_TESTS_SEED=fresh \
//!     cargo test -p tests --test rivals over_libvirts_and_back
//! ```
//!
//! In [journeys](injected) nothing is random but the choice of a system call that fails. What is done is
//! always the same, and what must hold as well, but for what the failing call excuses once.
//!
//! | variable | what it says |
//! | --- | --- |
//! | `VIRT_TESTS_WALKS` | how many walks |
//! | `VIRT_TESTS_STEPS` | steps of each |
//! | `VIRT_TESTS_SEED` | seed of the first, the next ones follow; `fresh` for one that nobody had yet |
//! | `VIRT_TESTS_PARALLEL` | walks at a time, for each daemon |
//! | `VIRT_TESTS_WITHOUT` | faults and events that are left out: `disk-hangs,libvirt`; nothing when it is empty |
//! | `VIRT_TESTS_REPLAY` | the steps of the walk, as they are shown, in place of a seed's |
//! | `VIRT_TESTS_FAILURES` | failing walks after which there are no more |
//! | `VIRT_TESTS_SHRINK_S` | how long each of them is made shorter, in seconds |
//! | `VIRT_TESTS_PATIENCE_S` | how long a daemon may take for what it owes, in seconds |

mod attempt;
mod course;
mod disk;
pub mod injected;
mod leases;
mod listed;
mod locks;
mod logs;
mod meetings;
mod plan;
mod rivals;
mod role;
mod runner;
mod shrink;
mod step;
mod tally;
mod walk;
mod world;

pub use attempt::Equipment;
pub use course::Course;
pub use rivals::Mode;
pub use role::main;
pub use runner::{replay, run};
