//! What a process of a walk is: the executable `walker` is all of them.

use std::env;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{leases, logs, step, walk};
use crate::harness::Program;

/// The life of a process of a walk, as its arguments say.
///
/// # Panics
/// When it is none, and when something in a walk is not as it has to be.
pub fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["walk", program, file_system, steps] => {
            let program = program_named(program);
            let steps = step::parse(steps).expect("the steps of a walk");
            make_room();
            walk::walk(program, &steps, Path::new(file_system));
        }
        ["log-guest", number, file] => logs::live(number, Path::new(file)),
        ["lease-owner", number, socket] => leases::live(number, Path::new(socket)),
        _ => panic!("what is {arguments:?}?"),
    }
}

fn program_named(name: &str) -> Program {
    let programs = [Program::Virtlogd, Program::Virtlockd];
    programs.into_iter().find(|program| program.name() == name).expect("a daemon")
}

/// Files in memory, which go with the namespace, and as many fds as there may be.
fn make_room() {
    const NO_FLAGS: MsFlags = MsFlags::empty();
    let scratch = env::temp_dir();
    mount(Some("walk"), &scratch, Some("tmpfs"), NO_FLAGS, None::<&str>).expect("mounting a tmpfs");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("asking for a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raising a limit");
}
