//! Logs on a journey: every line once and in order, every call answered once.

use std::path::PathBuf;

use tests::harness::{Daemon, Route, Setup, eventually};
use tests::load::{Caller, Gate, Newcomer, Pace, PositionAsker, Writer};

use super::journey::{expect_descriptors, hops, idle_descriptors, travel};

tests::routes! { Virtlogd:
    no_line_and_no_answer_is_lost,
    no_line_and_no_answer_is_lost_in_the_background,
}

const LOGS: usize = 8;

fn no_line_and_no_answer_is_lost(route: Route) {
    journey(setup(route).start(), route);
}

fn no_line_and_no_answer_is_lost_in_the_background(route: Route) {
    journey(setup(route).start_detached(), route);
}

fn setup(route: Route) -> Setup {
    route.start().setup().config(&config(route)).replaceable()
}

/// Logs so large, and so many parts of them, that none is removed before it was looked at.
pub(super) fn config(route: Route) -> String {
    let max_size_bytes = 65_536 * hops(route);
    format!("max_size = {max_size_bytes}\nmax_backups = 32\n")
}

/// The whole way with guests that write and clients that call.
pub(super) fn journey(mut daemon: Daemon, route: Route) {
    // libvirt's session daemon opens something for good with its first log.
    let mut first = daemon.log_client();
    drop(first.open(&daemon.file("first.log")).unwrap());
    first.hang_up().unwrap();
    let before = idle_descriptors(&daemon, route);
    let gate = Gate::default();
    let load = Load::start(&daemon, &gate);
    travel(&mut daemon, route, &gate);
    load.finish(&daemon);
    expect_descriptors(&daemon, route, &before);
}

/// Guests that write and clients that call.
pub(super) struct Load {
    writers: Vec<Writer>,
    callers: Vec<Caller>,
}

impl Load {
    pub(super) fn start(daemon: &Daemon, gate: &Gate) -> Self {
        let path = |number| -> PathBuf { daemon.file(&format!("{number}.log")) };
        let writers = (0..LOGS).map(|number| {
            let pipe = daemon.log_client().open(&path(number)).unwrap().pipe;
            let pace = if number % 4 == 0 { Pace::Bursts } else { Pace::Lines };
            Writer::start(&path(number), pipe, pace)
        });
        let writers = writers.collect();
        let askers = [0, 1].map(|log| Caller::start(gate, PositionAsker::new(daemon, &path(log))));
        let mut callers = Vec::from(askers);
        callers.push(Caller::start(gate, Newcomer::new(daemon)));
        Self { writers, callers }
    }

    /// Ends it, and checks that nothing was lost and no guest's pipe is open twice.
    pub(super) fn finish(self, daemon: &Daemon) {
        for caller in self.callers {
            assert!(caller.finish() > 0, "a client has not called");
        }
        for writer in &self.writers {
            let pipe = writer.pipe_inode();
            eventually("a pipe is open once", || daemon.descriptors_of_pipe(pipe) == 1);
        }
        self.writers.into_iter().for_each(Writer::finish);
    }
}
