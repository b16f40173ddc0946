//! What a process of a walk is: the executable `walker` is all of them.

use std::env;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::course::Course;
use super::{injected, leases, logs, rivals, step, walk};
use crate::sequences;

/// The life of a process of a walk, as its arguments say.
///
/// # Panics
/// When it is none, and when something in a walk is not as it has to be.
pub fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["walk", course, file_system, steps] => {
            let steps = step::parse(steps).expect("the steps of a walk");
            make_room();
            match Course::named(course).expect("a kind of walk") {
                Course::Faults(program) => walk::walk(program, &steps, Path::new(file_system)),
                Course::Rivals(mode) => rivals::walk(mode, &steps),
            }
        }
        ["journey", course, injection] => {
            make_room();
            match Course::named(course).expect("a kind of walk") {
                Course::Faults(program) => injected::travel(program, injection),
                Course::Rivals(_) => panic!("rivals make no journey"),
            }
        }
        ["log-guest", number, file] => logs::live(number, Path::new(file)),
        ["lease-owner", number, socket] => leases::live(number, Path::new(socket)),
        ["rival", kind, socket] => rivals::live(kind, Path::new(socket)),
        ["sequences", program, seed, count] => {
            let number = |text: &str| text.parse().expect("a number");
            sequences::play_many(program, number(seed), number(count));
        }
        ["connecting", socket] => sequences::live_as_guest(Path::new(socket)),
        ["stranger"] => rivals::live_as_stranger(),
        _ => panic!("what is {arguments:?}?"),
    }
}

/// Files in memory, which go with the namespace, and as many fds as there may be.
fn make_room() {
    const NO_FLAGS: MsFlags = MsFlags::empty();
    let scratch = env::temp_dir();
    mount(Some("walk"), &scratch, Some("tmpfs"), NO_FLAGS, None::<&str>).expect("mounting a tmpfs");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("asking for a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("raising a limit");
}
