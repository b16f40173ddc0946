//! The unit whose main process this is, as systemd describes it. The environment lacks this if the
//! process was started under another unit, or by systemd before 254.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bus::{Bus, Error, Kind, Value};

/// Exists while systemd is the init system, see `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

/// Notification socket of systemd, whatever the environment says.
const NOTIFY: &str = "systemd/notify";

/// Beginning of the abstract address that systemd has had in its place.
const ABSTRACT: &[u8] = b"@/org/freedesktop/systemd1/";

/// systemd's private socket for questions.
const PRIVATE: &str = "systemd/private";
const SYSTEM_BUS: &str = "dbus/system_bus_socket";

/// Error for a process of no unit, or a unit that is no service. Any other error, as from a bus
/// while it executes itself anew, gives no information.
const NO_UNIT: &str = "org.freedesktop.systemd1.NoUnitForPID";
const NO_SERVICE: [&str; 2] =
    ["org.freedesktop.DBus.Error.UnknownInterface", "org.freedesktop.DBus.Error.UnknownProperty"];

/// A service unit whose main process this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Name of the unit.
    pub name: String,
    /// Address of the notification socket: a value for `NOTIFY_SOCKET`.
    pub notify_socket: OsString,
    /// It accepts notifications of the main process.
    pub is_listening: bool,
    /// Capacity of the fd store.
    pub store_max: usize,
    /// Number of stored fds.
    pub stored: usize,
    /// Lifetime of the fd store.
    pub preserve: Preserve,
    /// Pending job of the unit.
    pub job: Job,
    /// The service is restarted after its process has ended as asked.
    pub restarts_always: bool,
}

/// Lifetime of an fd store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preserve {
    /// Until the process ends in order, even if another is to follow.
    No,
    /// Until a stop.
    Restart,
    /// Beyond a stop.
    Yes,
}

/// Pending job of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// None.
    None,
    /// Stop and start.
    Restart,
    /// Stop.
    Stop,
    /// A job that ends nothing.
    Other,
}

impl Unit {
    /// Asks for the unit within `patience`; `None` if systemd has no service whose main process
    /// this is.
    ///
    /// # Errors
    /// systemd is there and has not answered.
    pub fn ask(patience: Duration) -> Result<Option<Self>, Error> {
        let deadline = Instant::now() + patience;
        let mut failure = None;
        for manager in Manager::all() {
            match manager.ask(std::process::id(), deadline) {
                Ok(Some(unit)) => return Ok(Some(unit)),
                Ok(None) => {}
                Err(Error::Io(error)) if is_absent(&error) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Returns the number of our fds that it would store.
    #[must_use]
    pub fn takes(&self) -> usize {
        if self.is_listening { self.store_max } else { 0 }
    }

    /// Returns whether this address, a value of `NOTIFY_SOCKET`, is that of the unit's systemd. If
    /// not, another supervisor has started the process, and the unit's store is not that one's.
    #[must_use]
    pub fn listens_at(&self, address: &OsStr) -> bool {
        address == self.notify_socket || address.as_bytes().starts_with(ABSTRACT)
    }

    /// Returns whether the store outlives a process that ends now and is followed by another.
    #[must_use]
    pub fn outlives_stop(&self) -> bool {
        match (self.preserve, self.job) {
            (Preserve::Yes, _) => true,
            (Preserve::Restart, Job::Restart) => true,
            (Preserve::Restart, Job::None | Job::Other) => self.restarts_always,
            (Preserve::Restart, Job::Stop) | (Preserve::No, _) => false,
        }
    }
}

/// An instance of systemd: the machine's, or a user's.
#[derive(Debug)]
struct Manager {
    socket: PathBuf,
    kind: Kind,
    notify_socket: PathBuf,
}

impl Manager {
    /// Returns the instances that could have this process, the likelier one first.
    fn all() -> Vec<Self> {
        let run = Path::new("/run");
        let mut all = Vec::new();
        if let Some(own) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
            && own.is_absolute()
        {
            all.push(Self::at(&own, PRIVATE, Kind::Direct));
        }
        if Path::new(BOOTED).is_dir() {
            all.push(Self::at(run, PRIVATE, Kind::Direct));
            all.push(Self::at(run, SYSTEM_BUS, Kind::Bus));
        }
        all
    }

    fn at(run: &Path, socket: &str, kind: Kind) -> Self {
        Self { socket: run.join(socket), kind, notify_socket: run.join(NOTIFY) }
    }

    fn ask(&self, pid: u32, deadline: Instant) -> Result<Option<Unit>, Error> {
        let mut bus = match Bus::connect(&self.socket, self.kind, deadline) {
            Err(Error::OtherNamespace) => return Ok(None),
            bus => bus?,
        };
        let mut properties = match bus.unit_of(pid) {
            Ok(path) => Properties { bus, path },
            Err(Error::Refused(name)) if name == NO_UNIT => return Ok(None),
            Err(error) => return Err(error),
        };
        match properties.number("MainPID") {
            Ok(main_pid) if main_pid == u64::from(pid) => {}
            // Another process's unit, or no service.
            Ok(_) => return Ok(None),
            Err(Error::Refused(name)) if NO_SERVICE.contains(&name.as_str()) => return Ok(None),
            Err(error) => return Err(error),
        }
        properties.unit(self.notify_socket.clone().into_os_string()).map(Some)
    }
}

/// Properties of a service.
struct Properties {
    bus: Bus,
    path: String,
}

impl Properties {
    fn unit(&mut self, notify_socket: OsString) -> Result<Unit, Error> {
        let access = self.text("NotifyAccess")?;
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Unit {
            notify_socket,
            is_listening: ["main", "exec", "all"].contains(&access.as_str()),
            store_max: count(self.number("FileDescriptorStoreMax")?),
            stored: count(self.number("NFileDescriptorStore")?),
            preserve: self.preserve()?,
            restarts_always: ["always", "on-success"].contains(&self.text("Restart")?.as_str()),
            job: self.job()?,
            name: match self.bus.property(&self.path, "Unit", "Id")? {
                Value::Text(name) => name,
                _ => return Err(Error::Type),
            },
        })
    }

    /// Returns the store's lifetime. systemd before 254 does not have the property, and empties the
    /// store at a stop.
    fn preserve(&mut self) -> Result<Preserve, Error> {
        match self.text("FileDescriptorStorePreserve") {
            Ok(text) if text == "yes" => Ok(Preserve::Yes),
            Ok(text) if text == "restart" => Ok(Preserve::Restart),
            Ok(_) => Ok(Preserve::No),
            Err(Error::Refused(_)) => Ok(Preserve::Restart),
            Err(error) => Err(error),
        }
    }

    fn job(&mut self) -> Result<Job, Error> {
        let job = self.bus.property(&self.path, "Unit", "Job")?;
        let Value::Numbered(number, path) = job else { return Err(Error::Type) };
        if number == 0 {
            return Ok(Job::None);
        }
        match self.bus.property(&path, "Job", "JobType") {
            Ok(Value::Text(kind)) => Ok(match kind.as_str() {
                "restart" | "try-restart" => Job::Restart,
                "stop" => Job::Stop,
                _ => Job::Other,
            }),
            Ok(_) => Err(Error::Type),
            // The job has just ended.
            Err(Error::Refused(_)) => Ok(Job::None),
            Err(error) => Err(error),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, Error> {
        match self.bus.property(&self.path, "Service", name)? {
            Value::Text(text) => Ok(text),
            _ => Err(Error::Type),
        }
    }

    fn number(&mut self, name: &str) -> Result<u64, Error> {
        match self.bus.property(&self.path, "Service", name)? {
            Value::Number(number) => Ok(number),
            _ => Err(Error::Type),
        }
    }
}

/// Returns whether an instance is absent or inaccessible. One that refuses connections now may be
/// back soon.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests;
