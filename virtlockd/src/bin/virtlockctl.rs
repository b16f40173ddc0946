//! The virtlockctl program.

use std::process::ExitCode;

fn main() -> ExitCode {
    virtlockd::tool::main()
}
