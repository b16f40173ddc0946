//! What both daemons do in the same way, and the demo.

mod demo;
mod framing;
mod own_log;
mod process_one;
