//! Loading of the configuration file: at a start, for a predecessor's check, and at a take-over,
//! which cannot refuse it.

use std::io;
use std::path::Path;

use super::failure::{self, Failure};
use super::service::Service;
use crate::cli::{Options, Paths};
use crate::config::{self, Common, Document};
use crate::logging::{Logger, Settings};

/// A valid configuration.
pub(super) struct Configuration<S: Service> {
    pub(super) common: Common,
    pub(super) settings: S::Settings,
    document: Document,
    /// Content of the file, as read.
    pub(super) bytes: Vec<u8>,
}

impl<S: Service> Configuration<S> {
    /// Reads the file. A missing default file counts as empty; a file that was named must exist.
    ///
    /// # Errors
    /// [`Failure::Config`].
    pub(super) fn load(options: &Options, paths: &Paths) -> Result<Self, Failure> {
        let path = path_of(options, paths);
        match config::read_file(path) {
            Ok(bytes) => Self::parse(path, bytes),
            Err(config::Error::Open { source, .. })
                if options.config_file.is_none() && source.kind() == io::ErrorKind::NotFound =>
            {
                Self::parse(Path::new(""), Vec::new())
            }
            Err(error) => Err(Failure::Config { path: path.to_owned(), error }),
        }
    }

    /// Reads the file, or falls back to the predecessor's content, or to libvirt's defaults: logs
    /// and leases depend on this process already. Logs what is wrong.
    pub(super) fn load_or_inherit(
        options: &Options,
        paths: &Paths,
        inherited: Option<Vec<u8>>,
    ) -> Result<(Self, Option<Failure>), Failure> {
        let failure = match Self::load(options, paths) {
            Ok(configuration) => return Ok((configuration, None)),
            Err(failure) => failure,
        };
        let inherited =
            inherited.and_then(|bytes| Self::parse(path_of(options, paths), bytes).ok());
        let configuration = inherited.map_or_else(|| Self::parse(Path::new(""), Vec::new()), Ok)?;
        Ok((configuration, Some(failure)))
    }

    /// Reads the file as a successor would, log settings included.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub(super) fn check(options: &Options, paths: &Paths) -> Result<(), Failure> {
        let configuration = Self::load(options, paths)?;
        let settings = Settings::detect(S::NAME, options, &configuration.common, paths)?;
        Logger::new(settings)?;
        Ok(())
    }

    /// Warns of unknown keys.
    pub(super) fn warn_of_unknown_keys(&self) {
        let known = [&Common::KEYS, S::CONFIG_KEYS].concat();
        for entry in self.document.unknown(&known) {
            tracing::warn!(
                target: "util.conf",
                "{}:{}: unknown key '{}' has no effect",
                self.document.path().display(), entry.line, entry.key
            );
        }
    }

    fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, Failure> {
        let document = Document::parse(path, &bytes)
            .map_err(|error| Failure::Config { path: path.to_owned(), error })?;
        let common = Common::read(&document).map_err(|error| failure::config(&document, error))?;
        let settings =
            S::configure(&document).map_err(|error| failure::config(&document, error))?;
        Ok(Self { common, settings, document, bytes })
    }
}

fn path_of<'a>(options: &'a Options, paths: &'a Paths) -> &'a Path {
    options.config_file.as_ref().unwrap_or(&paths.config_file)
}
