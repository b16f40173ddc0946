//! The service of a journey: its processes, one of which has a call fail, and what that excuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::injection::Injection;
use super::injector::Injector;
use crate::harness::{Exit, Host, Program, Whose, eventually_within};
use crate::supervisor::{Service, patience};
use crate::walks::plan::STORE_FDS;
use crate::wire::{Answer, Connection, Header, Reply};

/// How often it is looked whether a process has ended.
const SLICE: Duration = Duration::from_millis(20);

/// How long what a failed call has cost may go without being made good by itself.
const REFILL_PERIOD: Duration = Duration::from_millis(1_500);

/// The exit status of a program that could not even be loaded.
const NOT_LOADED: i32 = 127;

/// What the language says of a thread that cannot be started for lack of memory, and of nothing else.
const NO_STACK: &str = "alternative stack";

/// What the machine is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// All calls are counted.
    Record,
    /// A call fails.
    Inject(Injection),
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) service: Service,
    host: Arc<Host>,
    purpose: Purpose,
    /// Processes that the journey has asked for.
    started: usize,
    injectors: Vec<Injector>,
    /// Strikes that have been an excuse already.
    excused: usize,
}

impl Machine {
    pub(super) fn start(program: Program, host: &Arc<Host>, purpose: Purpose) -> Self {
        let service = Service::unstarted(program, host, STORE_FDS);
        let (host, injectors) = (Arc::clone(host), Vec::new());
        let mut machine = Self { service, host, purpose, started: 0, injectors, excused: 0 };
        machine.begin();
        machine
    }

    /// A file for a log or lease.
    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.host.file(name)
    }

    /// How often each process has made each call.
    pub(super) fn counts(&self) -> Vec<BTreeMap<String, u64>> {
        self.injectors.iter().map(Injector::counts).collect()
    }

    /// How many calls have failed until now.
    pub(crate) fn strikes(&self) -> usize {
        match self.purpose {
            Purpose::Record => 0,
            Purpose::Inject(_) => self.injectors.iter().map(Injector::strikes).sum(),
        }
    }

    /// Does something that may fail once for each call that has: it is tried until it succeeds.
    #[track_caller]
    pub(crate) fn perform<T>(
        &mut self,
        what: &str,
        mut action: impl FnMut(&Self) -> Result<T, String>,
    ) -> T {
        loop {
            match action(self) {
                Ok(done) => {
                    self.see_to_process();
                    return done;
                }
                Err(reason) => self.excuse(what, &reason),
            }
            self.see_to_process();
        }
    }

    /// Waits until all is as it has to be. What is not by itself is at the next upgrade, at the latest.
    #[track_caller]
    pub(crate) fn settle(&mut self, mut check: impl FnMut(&Self) -> Result<(), String>) {
        let (mut start, mut is_nudged) = (Instant::now(), false);
        while let Err(reason) = check(self) {
            if self.see_to_process() {
                start = Instant::now();
            } else if !is_nudged && self.strikes() > 0 && start.elapsed() > REFILL_PERIOD {
                println!("OUTCOME nudged {reason}");
                self.upgrade();
                (start, is_nudged) = (Instant::now(), true);
            }
            assert!(start.elapsed() < patience(), "{reason}");
            std::thread::sleep(SLICE / 4);
        }
    }

    /// Calls, over a connection of its own.
    ///
    /// # Errors
    /// Says why there is no answer; an answer may be an error, too.
    pub(crate) fn call(&self, calls: &[(i32, Vec<u8>)]) -> Result<Reply, String> {
        let daemon = self.service.daemon();
        let mut connection =
            Connection::open(&daemon.main_socket()).map_err(|error| error.to_string())?;
        let number = daemon.subject().program.number();
        let mut reply = Err("nothing is called".to_owned());
        for (procedure, payload) in calls {
            let call = Header::call(number, *procedure).message(payload);
            connection.send(&call).map_err(|error| error.to_string())?;
            reply = Ok(self.answer(&mut connection)?);
            if matches!(reply, Ok(Err(_))) {
                break;
            }
        }
        reply
    }

    fn answer(&self, connection: &mut Connection) -> Result<Reply, String> {
        let end = Instant::now() + patience();
        loop {
            match connection.answer_within(SLICE) {
                Answer::Message(frame) => return Ok(frame.into_result()),
                Answer::Closed => return Err("the connection is closed".to_owned()),
                Answer::Silence if self.service.has_ended() => {
                    return Err("the process has ended".to_owned());
                }
                Answer::Silence => assert!(Instant::now() < end, "a call is not answered"),
            }
        }
    }

    /// The same image is executed once more, which may be refused once for a call that failed.
    #[track_caller]
    pub(crate) fn upgrade(&mut self) {
        loop {
            let (refusals, ready) = (self.refusals(), self.service.supervisor.ready_count());
            self.service.begin_upgrade(Whose::Ours);
            let is_over = |machine: &Self| {
                let is_ready = machine.service.supervisor.ready_count() > ready;
                (is_ready && machine.service.daemon().is_current())
                    || machine.refusals() > refusals
                    || machine.service.has_ended()
            };
            let is_done = eventually_within(patience(), || is_over(self));
            assert!(is_done, "an upgrade neither comes about nor is refused");
            if self.see_to_process() || self.refusals() == refusals {
                return;
            }
            let reason = self.service.last_refusal();
            assert!(!reason.is_empty(), "an upgrade is refused without a reason");
            println!("OUTCOME upgrade-refused {reason}");
            self.excuse("an upgrade", &reason);
        }
    }

    /// The process is killed, or stopped, and the next one is started.
    #[track_caller]
    pub(crate) fn restart(&mut self, signal: Signal) {
        self.end(signal);
        self.begin();
    }

    /// The process is killed or stopped.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: Signal) {
        self.see_to_process();
        let exit = self.service.end_by(signal);
        self.expect_no_panic(&exit);
        let is_right = match signal {
            Signal::SIGKILL => exit.signal == Some(Signal::SIGKILL as i32),
            _ => exit.code == Some(0),
        };
        if !is_right {
            println!("OUTCOME ended-wrongly {exit:?}");
            assert!(self.strikes() > 0 && self.is_explained(&exit, true), "{exit:?}");
        }
    }

    /// Starts the next process of the journey.
    fn begin(&mut self) {
        self.started += 1;
        let injection = match &self.purpose {
            Purpose::Record => Some(None),
            Purpose::Inject(it) => (it.process == self.started).then(|| Some(it.clone())),
        };
        let words = injection.map_or(Vec::new(), |injection| {
            let socket = self.host.path(&format!("calls{}", self.started));
            self.injectors.push(Injector::listen(&socket, injection));
            self.injectors.last().map_or(Vec::new(), Injector::words)
        });
        self.spawn(words);
    }

    /// Starts a process and waits until it serves; another one if it ends instead.
    fn spawn(&mut self, words: Vec<String>) {
        self.service.supervisor.catch_up();
        let ready = self.service.supervisor.ready_count();
        self.service.set_through(words);
        self.service.spawn();
        let service = &self.service;
        let is_begun = eventually_within(patience(), || {
            service.supervisor.ready_count() > ready || service.has_ended()
        });
        assert!(is_begun, "a process neither serves nor ends");
        if self.service.supervisor.ready_count() > ready && !self.service.has_ended() {
            self.service.note_serving();
        }
        self.see_to_process_at(true);
    }

    /// Starts the process that has ended anew, without a call that fails; says whether it had.
    fn see_to_process(&mut self) -> bool {
        self.see_to_process_at(false)
    }

    fn see_to_process_at(&mut self, is_start: bool) -> bool {
        if !self.service.has_ended() {
            return false;
        }
        let exit = self.service.take_exit();
        self.expect_no_panic(&exit);
        let kind = if is_start { "start-failed" } else { "ended" };
        println!("OUTCOME {kind} {:?} {:?} {}", exit.code, exit.signal, last_line(&exit.stderr));
        assert!(self.strikes() > 0, "the process has ended by itself: {exit:?}");
        assert!(self.is_explained(&exit, is_start), "the process has ended: {exit:?}");
        self.spawn(Vec::new());
        true
    }

    /// A process that cannot start says why; one without memory ends.
    fn is_explained(&self, exit: &Exit, is_start: bool) -> bool {
        let Purpose::Inject(injection) = &self.purpose else { return false };
        let is_abort = exit.signal == Some(Signal::SIGABRT as i32);
        let is_told = exit.code.is_some_and(|code| code != 0) && exit.stderr.contains("error");
        (is_abort && injection.may_abort())
            || (is_start && is_told)
            || exit.code == Some(NOT_LOADED)
    }

    fn expect_no_panic(&self, exit: &Exit) {
        let is_memory = matches!(&self.purpose, Purpose::Inject(it) if it.may_abort());
        let is_no_stack = is_memory && exit.stderr.contains(NO_STACK);
        assert!(is_no_stack || !exit.stderr.contains("panicked"), "a panic: {exit:?}");
    }

    #[track_caller]
    fn excuse(&mut self, what: &str, reason: &str) {
        println!("OUTCOME refused {what}: {reason}");
        let strikes = self.strikes();
        assert!(strikes > self.excused, "{what} fails for no reason: {reason}");
        self.excused = strikes;
    }

    fn refusals(&self) -> usize {
        self.service.refusals()
    }
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}
