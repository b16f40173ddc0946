//! Behaviour common to both daemons, and the demo.

mod demo;
mod framing;
mod messages;
mod own_log;
mod process_one;
