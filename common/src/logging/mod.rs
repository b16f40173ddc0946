//! The daemon's own log: libvirt's filters and outputs, changeable at run time, as a subscriber of
//! `tracing`.
//!
//! An event's `target` is its category. Names are libvirt's where libvirt has one, so that
//! operators' filters keep working: `tracing::warn!(target: "rpc.netserver", "...")`. An event is
//! logged if its level is at least that of the first filter that matches the category, or else the
//! default level. It then goes to every output whose own level it reaches.
//!
//! A disabled event costs one load from memory: `tracing` caches for each call site whether it is
//! enabled, and the cache is rebuilt whenever filters or outputs change.
//!
//! Writing never fails the daemon and never blocks it. Files and stderr have a [queue] and a
//! [thread](writer) each, and only that thread blocks on a hanging disk or pipe. A message that
//! cannot be written, or does not fit the queue, is lost, counted, and reported in its place. An
//! orderly [end](mod@end) gives the threads a second. A thread that is in the kernel can keep the
//! process from exiting and from executing a successor: before an exec the threads
//! [end](Logger::hold).

mod end;
mod error;
mod filter;
mod journal;
mod level;
mod lines;
mod logger;
mod opening;
mod output;
mod queue;
mod record;
mod repeats;
mod services;
mod settings;
mod sink;
mod state;
mod stderr;
mod stream;
mod writer;

pub use self::end::{Held, bound_panics, end, last_words};
pub use self::error::{Error, Invalid};
pub use self::filter::{FILTERS_MAX, Filters};
pub use self::level::Level;
pub use self::logger::Logger;
pub use self::opening::{Opened, Opening};
pub use self::output::{Destination, OUTPUTS_MAX, Output, Outputs};
pub use self::queue::FLUSH_PERIOD;
pub use self::record::timestamp;
pub use self::services::Services;
pub use self::settings::{Environment, Settings, Surroundings};
pub use self::state::LEAVING_MAX;

#[cfg(test)]
mod tests;
