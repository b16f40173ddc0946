//! The virtlogctl program.

use std::process::ExitCode;

fn main() -> ExitCode {
    virtlogd::tool::main()
}
