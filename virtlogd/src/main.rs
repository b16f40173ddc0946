//! The virtlogd program.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::startup::main::<virtlogd::Handler>(std::env::args_os())
}
