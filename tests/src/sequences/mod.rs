//! Generated sequences of calls, played with libvirt's daemon and with ours side by side: whatever is
//! different has to be a row of a README.

mod client;
mod comparison;
mod files;
mod guest;
mod message;
mod observation;
mod operation;
mod pair;
mod rules;
mod runner;
mod sequence;
mod side;
mod step;
mod tidying;

pub(crate) use guest::live as live_as_guest;
pub use rules::titles;
pub(crate) use runner::play_many;
pub use runner::run;
