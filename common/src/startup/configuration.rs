//! Loading of the configuration files: at a start, for a predecessor's check, and at a take-over,
//! which cannot refuse them.

use std::io;
use std::path::{Path, PathBuf};

use super::failure::{self, Failure};
use super::service::Service;
use crate::cli::{Options, Paths};
use crate::config::{self, Common, Contents, Document, Toml};
use crate::logging::{Logger, Settings};

/// A valid configuration.
pub(super) struct Configuration<S: Service> {
    pub(super) common: Common,
    pub(super) settings: S::Settings,
    document: Document,
    /// The files, as read.
    pub(super) contents: Contents,
}

impl<S: Service> Configuration<S> {
    /// Reads the files. A missing default file counts as empty; a file that was named must exist.
    ///
    /// # Errors
    /// [`Failure::Config`].
    pub(super) fn load(options: &Options, paths: &Paths) -> Result<Self, Failure> {
        let (path, conf) = read_conf(options, paths)?;
        let toml = match Self::toml_path(options, paths) {
            Some(path) => Toml::load(&path).map_err(|error| Failure::Config { path, error })?,
            None => Vec::new(),
        };
        Self::parse(options, paths, path, Contents { conf, toml })
    }

    /// Reads the files, or falls back to the predecessor's contents, to the one that libvirt's
    /// daemons read, or to libvirt's defaults: logs and leases depend on this process already.
    /// Returns what is wrong with the files.
    pub(super) fn load_or_inherit(
        options: &Options,
        paths: &Paths,
        inherited: Option<Contents>,
    ) -> Result<(Self, Option<Failure>), Failure> {
        let failure = match Self::load(options, paths) {
            Ok(configuration) => return Ok((configuration, None)),
            Err(failure) => failure,
        };
        let parse = |path, contents| Self::parse(options, paths, path, contents);
        let inherited = inherited.map(|contents| parse(path_of(options, paths), contents));
        let inherited = inherited.and_then(Result::ok);
        let conf_alone = || {
            let (path, conf) = read_conf(options, paths).ok()?;
            parse(path, Contents { conf, ..Contents::default() }).ok()
        };
        let defaults = || parse(Path::new(""), Contents::default());
        let configuration = inherited.or_else(conf_alone).map_or_else(defaults, Ok)?;
        Ok((configuration, Some(failure)))
    }

    /// Reads the files as a successor would, log settings included.
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

    /// Parses the contents of the files; `path` is that of libvirt's, empty without one.
    fn parse(
        options: &Options,
        paths: &Paths,
        path: &Path,
        contents: Contents,
    ) -> Result<Self, Failure> {
        let document = Document::parse(path, &contents.conf)
            .map_err(|error| Failure::Config { path: path.to_owned(), error })?;
        let common = Common::read(&document).map_err(|error| failure::config(&document, error))?;
        let mut settings =
            S::configure(&document).map_err(|error| failure::config(&document, error))?;
        if let Some(path) = Self::toml_path(options, paths) {
            Toml::new(&path, &contents.toml)
                .and_then(|toml| S::configure_toml(&mut settings, &toml))
                .map_err(|error| Failure::Config { path, error })?;
        }
        Ok(Self { common, settings, document, contents })
    }

    fn toml_path(options: &Options, paths: &Paths) -> Option<PathBuf> {
        S::HAS_TOML.then(|| config::beside(path_of(options, paths))).flatten()
    }
}

/// Reads libvirt's file. Returns its path too, an empty one without a file.
fn read_conf<'a>(options: &'a Options, paths: &'a Paths) -> Result<(&'a Path, Vec<u8>), Failure> {
    let path = path_of(options, paths);
    match config::read_file(path) {
        Ok(bytes) => Ok((path, bytes)),
        Err(config::Error::Open { source, .. })
            if options.config_file.is_none() && source.kind() == io::ErrorKind::NotFound =>
        {
            Ok((Path::new(""), Vec::new()))
        }
        Err(error) => Err(Failure::Config { path: path.to_owned(), error }),
    }
}

fn path_of<'a>(options: &'a Options, paths: &'a Paths) -> &'a Path {
    options.config_file.as_ref().unwrap_or(&paths.config_file)
}
