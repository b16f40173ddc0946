//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::message::is_name;
use crate::record::is_set_name;

/// Fds of a set, unless it says otherwise. Ours: 1,000 guests with 3 logs each, and some.
const SET_FDS: usize = 8192;

/// Fds that a set may be given: as many as have room for their names in one environment variable.
const SET_FDS_MAX: usize = 32_768;

/// Permission bits of a listening socket, unless it says otherwise: libvirt's.
const LISTENER_MODE: u32 = 0o600;

/// Holds file descriptors of daemons while these are away.
#[derive(Debug, Parser)]
#[command(name = "virtfdhold", version, about)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold the fds of daemons that ask at sockets below a directory.
    Serve(Serve),
    /// Take a set of fds from a holder, and execute its daemon in place of this program.
    Exec(Exec),
    /// Start a daemon, hold its fds, and start it again when it dies.
    Run(Run),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Directory of the sockets; each set has a directory in it.
    pub(crate) directory: PathBuf,
    /// A set: `NAME[,uid=NUMBER][,fds=NUMBER]`.
    #[arg(long = "set", required = true, value_parser = SetOptions::parse)]
    pub(crate) sets: Vec<SetOptions>,
    /// A listening socket of a set: `SET:NAME=PATH[,mode=OCTAL][,uid=NUMBER][,gid=NUMBER]`.
    #[arg(long = "listen", value_parser = parse_listener_of_set)]
    pub(crate) listeners: Vec<(String, ListenerOptions)>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Seconds to wait for the holder, and for the end of the daemon that has the set.
    #[arg(long = "wait", default_value_t = 30)]
    pub(crate) wait_s: u64,
    /// The set's directory.
    pub(crate) set: OsString,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) program: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Fds that are held at the most.
    #[arg(long = "fds", default_value_t = SET_FDS, value_parser = parse_fds)]
    pub(crate) fds_max: usize,
    /// A listening socket: `NAME=PATH[,mode=OCTAL][,uid=NUMBER][,gid=NUMBER]`.
    #[arg(long = "listen", value_parser = ListenerOptions::parse)]
    pub(crate) listeners: Vec<ListenerOptions>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) program: Vec<OsString>,
}

/// A set of fds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetOptions {
    pub(crate) name: String,
    /// The user whose daemons may have it; `None` for the holder's own.
    pub(crate) uid: Option<u32>,
    pub(crate) fds_max: usize,
}

/// A listening socket that is made for a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenerOptions {
    /// The name that the daemon knows it by.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// Reason why an option's value cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Error {
    #[error("a set's name has up to 32 letters, digits, '-' and '_'")]
    SetName,
    #[error("a listening socket is NAME=PATH")]
    Listener,
    #[error("a path is absolute")]
    Path,
    #[error("'{0}' is unknown here")]
    Unknown(String),
    #[error("'{0}' is no number that can be used here")]
    Number(String),
}

impl SetOptions {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(',');
        let name = parts.next().filter(|name| is_set_name(name)).ok_or(Error::SetName)?;
        let mut set = Self { name: name.to_owned(), uid: None, fds_max: SET_FDS };
        for part in parts {
            match part.split_once('=') {
                Some(("uid", number)) => set.uid = Some(parse_number(number)?),
                Some(("fds", number)) => set.fds_max = parse_fds(number)?,
                _ => return Err(Error::Unknown(part.to_owned())),
            }
        }
        Ok(set)
    }
}

impl ListenerOptions {
    fn parse(text: &str) -> Result<Self, Error> {
        let (name, rest) = text.split_once('=').ok_or(Error::Listener)?;
        let mut parts = rest.split(',');
        let path = PathBuf::from(parts.next().unwrap_or_default());
        if !is_name(name) || name.contains('=') {
            return Err(Error::Listener);
        }
        if !path.is_absolute() {
            return Err(Error::Path);
        }
        let mut listener =
            Self { name: name.to_owned(), path, mode: LISTENER_MODE, uid: None, gid: None };
        for part in parts {
            match part.split_once('=') {
                Some(("mode", digits)) => listener.mode = parse_mode(digits)?,
                Some(("uid", number)) => listener.uid = Some(parse_number(number)?),
                Some(("gid", number)) => listener.gid = Some(parse_number(number)?),
                _ => return Err(Error::Unknown(part.to_owned())),
            }
        }
        Ok(listener)
    }
}

fn parse_listener_of_set(text: &str) -> Result<(String, ListenerOptions), Error> {
    let (set, rest) = text.split_once(':').ok_or(Error::Listener)?;
    Ok((set.to_owned(), ListenerOptions::parse(rest)?))
}

fn parse_number(text: &str) -> Result<u32, Error> {
    text.parse().map_err(|_| Error::Number(text.to_owned()))
}

fn parse_fds(text: &str) -> Result<usize, Error> {
    let number = text.parse().ok().filter(|number| (1..=SET_FDS_MAX).contains(number));
    number.ok_or_else(|| Error::Number(text.to_owned()))
}

fn parse_mode(text: &str) -> Result<u32, Error> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| Error::Number(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_a_user_and_a_size() {
        let set = SetOptions::parse("virtlogd,uid=107,fds=9").unwrap();
        assert_eq!(set, SetOptions { name: "virtlogd".into(), uid: Some(107), fds_max: 9 });
        assert_eq!(SetOptions::parse("a").unwrap().fds_max, SET_FDS);
        assert_eq!(SetOptions::parse("../a"), Err(Error::SetName));
        assert_eq!(SetOptions::parse("a,fds=0"), Err(Error::Number("0".into())));
        assert_eq!(SetOptions::parse("a,size=1"), Err(Error::Unknown("size=1".into())));
    }

    #[test]
    fn a_listening_socket_has_a_name_and_a_path() {
        let (set, listener) =
            parse_listener_of_set("log:virtlogd.socket=/run/a-sock,mode=0660,gid=5").unwrap();
        assert_eq!((set.as_str(), listener.name.as_str()), ("log", "virtlogd.socket"));
        assert_eq!((listener.path, listener.mode), (PathBuf::from("/run/a-sock"), 0o660));
        assert_eq!((listener.uid, listener.gid), (None, Some(5)));
        assert_eq!(ListenerOptions::parse("a"), Err(Error::Listener));
        assert_eq!(ListenerOptions::parse("a=b"), Err(Error::Path));
        assert_eq!(ListenerOptions::parse("a=/b,mode=8"), Err(Error::Number("8".into())));
        assert_eq!(parse_listener_of_set("a=/b"), Err(Error::Listener));
    }

    #[test]
    fn what_follows_the_program_is_the_programs() {
        let parse = |words: &[&str]| Options::try_parse_from(words).unwrap().command;
        let Command::Run(run) =
            parse(&["virtfdhold", "run", "--fds", "5", "--", "virtlogd", "--fds"])
        else {
            panic!("run")
        };
        assert_eq!((run.fds_max, run.program.len()), (5, 2));
        let Command::Exec(exec) = parse(&["virtfdhold", "exec", "/run/x/log", "virtlogd", "-v"])
        else {
            panic!("exec")
        };
        assert_eq!((exec.set.to_str(), exec.program.len()), (Some("/run/x/log"), 2));
    }
}
