//! What the configuration file says, for the daemon that starts, for one that is asked whether it
//! could, and for one that takes over and cannot refuse.

use std::io;
use std::path::Path;

use super::failure::{self, Failure};
use super::service::Service;
use crate::cli::{Options, Paths};
use crate::config::{self, Common, Document};
use crate::logging::{Logger, Settings};

/// A configuration that is valid.
pub(super) struct Configuration<S: Service> {
    pub(super) common: Common,
    pub(super) settings: S::Settings,
    document: Document,
    /// As they were read.
    pub(super) bytes: Vec<u8>,
}

impl<S: Service> Configuration<S> {
    /// Reads the file. A default file that is not there is as an empty one; a file that was named
    /// has to be there.
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

    /// Reads the file, or takes what a predecessor of this process has read, or libvirt's
    /// defaults: somebody's logs and leases depend on this process already. Says what is wrong.
    pub(super) fn load_or_keep(
        options: &Options,
        paths: &Paths,
        kept: Option<Vec<u8>>,
    ) -> Result<(Self, Option<Failure>), Failure> {
        let failure = match Self::load(options, paths) {
            Ok(configuration) => return Ok((configuration, None)),
            Err(failure) => failure,
        };
        let kept = kept.and_then(|bytes| Self::parse(path_of(options, paths), bytes).ok());
        let configuration = kept.map_or_else(|| Self::parse(Path::new(""), Vec::new()), Ok)?;
        Ok((configuration, Some(failure)))
    }

    /// Reads it as a successor would, its log settings included.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(options: &Options, paths: &Paths) -> Result<(), Failure> {
        let configuration = Self::load(options, paths)?;
        let settings = Settings::detect(S::NAME, options, &configuration.common, paths)?;
        Logger::new(settings)?;
        Ok(())
    }

    /// Says which keys mean nothing.
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
