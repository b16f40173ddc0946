//! Who decides on the system calls of a process: all are counted, or some fail.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::errors;
use super::injection::Injection;
use crate::seccomp::{Decision, Notified, Notifier};
use crate::wire::Connection;

/// The one of a process.
#[derive(Debug)]
pub(super) struct Injector {
    injection: Option<Injection>,
    socket: PathBuf,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<String, u64>,
    strikes: usize,
}

impl Injector {
    /// Waits at this path for a process to be started, and then for its calls. Without an injection all
    /// are counted.
    pub(super) fn listen(socket: &Path, injection: Option<Injection>) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket for the listener");
        let shared = Arc::new(Mutex::new(State::default()));
        let (decides, state) = (injection.clone(), Arc::clone(&shared));
        std::thread::spawn(move || serve(&listener, decides.as_ref(), &state));
        Self { injection, socket: socket.to_path_buf(), shared }
    }

    /// Words in front of the command of the process.
    pub(super) fn words(&self) -> Vec<String> {
        let own = std::env::current_exe().expect("the path of this executable");
        let asking = own.with_file_name("asking");
        let asked = self.injection.as_ref().map_or("all".to_owned(), Injection::asked);
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        vec![text(&asking), text(&self.socket), asked]
    }

    /// How many calls were made to fail.
    pub(super) fn strikes(&self) -> usize {
        self.state().strikes
    }

    /// How often each call was made.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.state().counts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("the thread that decides has not failed")
    }
}

impl State {
    fn decide(&mut self, call: &Notified, injection: Option<&Injection>) -> Decision {
        let Some(injection) = injection else {
            *self.counts.entry(call.name.clone()).or_default() += 1;
            return Decision::Allow;
        };
        let number = self.counts.entry(injection.call.clone()).or_default();
        *number += u64::from(injection.concerns(&call.name));
        if !injection.strikes(&call.name, *number) || !errors::may_come_from(injection, call) {
            return Decision::Allow;
        }
        self.strikes += 1;
        let object = call.object().unwrap_or_default();
        println!("STRUCK {injection} in thread {}, at {}", call.thread, object.display());
        Decision::Fail(injection.errno)
    }
}

fn serve(listener: &UnixListener, injection: Option<&Injection>, state: &Mutex<State>) {
    let (stream, _) = listener.accept().expect("a process that is decided on");
    let (_, mut fds) = Connection::from(stream).byte_with_fds().expect("what is listened at");
    let notifier = Notifier::new(fds.remove(0));
    // Of the process that only executes the program.
    let mut is_executed = injection.is_some_and(|it| !it.concerns("execve"));
    while let Some(call) = notifier.next().expect("being asked") {
        let mut state = state.lock().expect("nobody fails holding it");
        let decision = match std::mem::replace(&mut is_executed, true) {
            true => state.decide(&call, injection),
            false => Decision::Allow,
        };
        drop(state);
        notifier.decide(&call, decision).expect("answering");
    }
}
