//! Logs as part of a state document, and back.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use common::handover::document::{Document, Log, LogHandler, PrivateLog};
use common::handover::text::{hex, parse_uuid, unhex, uuid};
use common::handover::{Inherited, Passing, Reader};
use common::server::Core;
use common::sys::{fd, pipe};

use crate::handler::{Handler, Outcome};
use crate::legacy::Legacy;
use crate::protocol::Domain;
use crate::pump::Pump;
use crate::task::Task;

impl Handler {
    /// Puts all logs into `document`.
    pub(crate) fn save_into<'a>(
        &'a self,
        document: &mut Document,
        passing: &mut Passing<'a>,
        reader: Reader,
    ) {
        let orphans = self
            .orphans
            .iter()
            .map(|pipe| Log { pipefd: Some(passing.fd(pipe.as_fd())), ..Log::default() });
        // libvirt's daemons would die of an entry without a name.
        let mut files: Vec<Log> = match reader {
            Reader::Ours => orphans.collect(),
            Reader::Libvirts => Vec::new(),
        };
        files.extend(self.pumps().filter_map(|(path, pump)| save(path, pump, passing, reader)));
        document.handler = Some(LogHandler { files: Some(files) });
    }

    /// Takes over logs.
    pub(crate) fn adopt_from(
        &mut self,
        core: &mut Core<Outcome>,
        document: Document,
        inherited: &mut Inherited,
    ) {
        for log in document.handler.and_then(|handler| handler.files).into_iter().flatten() {
            let shown = log.path.clone().unwrap_or_default();
            if let Err(error) = self.adopt_log(core, log, inherited) {
                tracing::error!(
                    target: "logging.log_handler",
                    "The log '{shown}' that was handed over is lost: {error}"
                );
            }
        }
    }

    fn adopt_log(
        &mut self,
        core: &mut Core<Outcome>,
        from: Log,
        inherited: &mut Inherited,
    ) -> io::Result<()> {
        let guest = inherited.take(from.pipefd)?;
        if !pipe::is_pipe(&guest) {
            return Err(io::Error::other("what was handed over is no pipe"));
        }
        let private = from.private.unwrap_or_default();
        let path = private.path.as_deref().and_then(unhex).map(OsString::from_vec);
        let Some(path) = path.or(from.path.map(OsString::from)).map(PathBuf::from) else {
            tracing::error!(
                target: "logging.log_handler",
                "A guest's pipe was handed over without a path; its output is dropped"
            );
            return self.adopt_orphan(core, guest);
        };
        let domain = Domain {
            driver: from.driver.unwrap_or_default().into_bytes().into(),
            uuid: from.domuuid.as_deref().and_then(parse_uuid).unwrap_or_default(),
            name: from.domname.unwrap_or_default().into_bytes().into(),
        };
        if self.has_lane(&path) {
            tracing::error!(
                target: "logging.log_handler",
                "{} was handed over twice; what {domain} writes into the second is dropped",
                path.display()
            );
            return self.adopt_orphan(core, guest);
        }
        let legacy = legacy(&private, inherited);
        self.adopt(core, &path, guest, |guest| Task::Adopt { domain, guest, legacy })
    }

    /// Pipes that were left without a word.
    pub(crate) fn salvage_from(&mut self, core: &mut Core<Outcome>, inherited: &mut Inherited) {
        while let Some(guest) = inherited.take_if(|fd| pipe::is_pipe(fd) && fd::is_readable(fd)) {
            tracing::error!(
                target: "logging.log_handler",
                "A pipe was handed over without a word; what is written into it is dropped"
            );
            if let Err(error) = self.adopt_orphan(core, guest) {
                tracing::error!(target: "logging.log_handler", "It is lost: {error}");
            }
        }
    }
}

/// `None` for one that the reader could not take.
fn save<'a>(path: &Path, pump: &'a Pump, passing: &mut Passing<'a>, reader: Reader) -> Option<Log> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let is_text = path.to_str().is_some();
    let reason = match reader {
        Reader::Ours => None,
        Reader::Libvirts if !is_text => Some("its path is no UTF-8".to_owned()),
        Reader::Libvirts => pump.trouble().map(str::to_owned),
    };
    if let Some(reason) = reason {
        tracing::error!(
            target: "logging.log_handler",
            "The log of {}, {}, ends, as libvirt's daemon could not go on with it: {reason}",
            pump.domain(), path.display()
        );
        return None;
    }
    if reader == Reader::Libvirts {
        // It takes EAGAIN for the end of the log.
        drop(fd::set_blocking(pump.guest()));
    }
    let domain = pump.domain();
    Some(Log {
        pipefd: Some(passing.fd(pump.guest())),
        path: Some(path.to_string_lossy().into_owned()),
        driver: Some(text(&domain.driver)),
        domname: Some(text(&domain.name)),
        domuuid: Some(uuid(&domain.uuid)),
        private: (reader == Reader::Ours).then(|| PrivateLog {
            path: (!is_text).then(|| hex(path.as_os_str().as_bytes())),
            ..pump.save(passing)
        }),
    })
}

fn legacy(from: &PrivateLog, inherited: &mut Inherited) -> Legacy {
    let mut take = |number: i32| inherited.take(Some(number)).ok();
    let staged = from.staged.iter().flatten();
    Legacy {
        file: from.file.and_then(&mut take).map(File::from),
        staged: staged
            .filter_map(|&(reader, writer)| Some((take(reader)?, take(writer)?)))
            .collect(),
        unfinished_line: from.unfinished_line.as_deref().and_then(unhex).unwrap_or_default(),
        loss: from.loss,
        rotation_steps_left: from.rotation_steps_left,
    }
}
