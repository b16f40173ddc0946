//! The daemon's side of the prober.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use common::event::Registered;
use common::sys::fd::set_nonblocking;
use common::sys::{pipe, process};

use crate::ids::PROBER;
use crate::outcome::Core;
use crate::proof::message::{LINE_BYTES_MAX, Order, Report};

/// The hidden option with which this program is the prober.
pub(crate) const OPTION: &str = "--probe-mounts";

/// Bytes of reports that are read at once.
const READ_BYTES: usize = 4096;

/// A running prober.
#[derive(Debug)]
pub(crate) struct Prober {
    orders: OwnedFd,
    reports: Registered<OwnedFd>,
    pub(crate) pid: i32,
    /// Beginning of a line.
    begun: Vec<u8>,
}

impl Prober {
    /// Starts a prober, whose reports make the source [`PROBER`] ready.
    ///
    /// # Errors
    /// As `pipe2(2)`, `fork(2)` and `epoll_ctl(2)`. A prober that was started ends.
    pub(crate) fn start(core: &Core, name: &str) -> io::Result<Self> {
        let (stdin, orders) = pipe::pipe()?;
        let (reports, stdout) = pipe::pipe()?;
        set_nonblocking(&reports)?;
        let arguments = [CString::new(name)?, CString::new(OPTION)?];
        let pid = process::start_this_program(&arguments, &stdin, &stdout)?;
        let reports = core.watch(reports, PROBER)?;
        Ok(Self { orders, reports, pid, begun: Vec::new() })
    }

    /// Gives an order.
    ///
    /// # Errors
    /// As `write(2)`; `WouldBlock` if the prober is far behind.
    pub(crate) fn order(&self, order: &Order) -> io::Result<()> {
        pipe::write(&self.orders, order.line().as_bytes())
    }

    /// Returns the reports that have come, and whether the prober goes on.
    pub(crate) fn reports(&mut self) -> (Vec<Report>, bool) {
        let mut buffer = [0; READ_BYTES];
        let goes_on = loop {
            match pipe::read(&*self.reports, &mut buffer) {
                Ok(0) => break false,
                Ok(count) => self.begun.extend(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
            if self.begun.len() > 16 * READ_BYTES {
                break false;
            }
        };
        let end = self.begun.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.begun.drain(..end).collect();
        let lines = String::from_utf8_lossy(&whole);
        let reports: Option<Vec<_>> = lines.lines().map(Report::parse).collect();
        let is_sound = reports.is_some() && self.begun.len() <= LINE_BYTES_MAX;
        (reports.unwrap_or_default(), goes_on && is_sound)
    }
}
