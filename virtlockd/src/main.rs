//! The virtlockd program.

use std::env::args_os;
use std::process::ExitCode;

fn main() -> ExitCode {
    virtlockd::run_prober_if_asked(args_os())
        .unwrap_or_else(|| common::startup::main::<virtlockd::Handler>(args_os()))
}
