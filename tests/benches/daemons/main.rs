//! What libvirt's daemons and ours cost, side by side: `cargo bench -p tests --bench daemons`.
//!
//! Behind `--` may stand words, of which one must occur in the title of what is measured,
//! `--quick`, and `--markdown` for a table at the end. Contenders take turns, round by round, so
//! that whatever else the machine does hits all of them. Calls are measured with caller and daemon
//! on one processor. Nothing is asserted on time; wrong content or a dead daemon ends the run.

mod caller;
mod content;
mod crowd;
mod guest;
mod leases;
mod locked;
mod many;
mod memory;
mod owners;
mod peer;
mod report;
mod rpc;
mod table;
mod throughput;
mod upgrade;
mod usage;
mod witness;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use table::Bench;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, rest @ ..] = &arguments[..]
        && command == leases::HOLD
    {
        return leases::hold(rest);
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit of open files");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raising a soft limit");
    let mut bench = Bench::new(&arguments);
    memory::run(&mut bench);
    throughput::run(&mut bench);
    many::run(&mut bench);
    locked::run(&mut bench);
    crowd::run(&mut bench);
    println!("\nFrom here on everything runs on one processor.");
    usage::stay_on_one_processor();
    rpc::run(&mut bench);
    leases::run(&mut bench);
    owners::run(&mut bench);
    upgrade::run(&mut bench);
    bench.end();
}
