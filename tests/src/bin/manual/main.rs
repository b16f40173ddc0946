//! `manual DIRECTORY` writes manual pages and shell completions of all programs there.
//!
//! Options, exit statuses, files and signals come from the definitions that the programs parse
//! their command lines with. The sections after these are in `virtlogd/man` and `virtlockd/man`, as
//! are the pages on configuration files, which are copied.

mod page;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::{Shell, generate_to};
use common::cli;
use common::startup::Service;

use page::Page;

/// A crate with its programs.
struct Package {
    name: &'static str,
    daemon: Command,
    tool: Command,
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: manual DIRECTORY");
        return ExitCode::FAILURE;
    };
    for package in packages() {
        if let Err(error) = package.write(&directory.join(package.name)) {
            eprintln!("manual: {}: {error}", package.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn packages() -> [Package; 2] {
    [
        Package {
            name: virtlogd::Handler::NAME,
            daemon: daemon::<virtlogd::Handler>(),
            tool: virtlogd::tool::command(),
        },
        Package {
            name: virtlockd::Handler::NAME,
            daemon: daemon::<virtlockd::Handler>(),
            tool: virtlockd::tool::command(),
        },
    ]
}

fn daemon<S: Service>() -> Command {
    cli::command(&cli::Program { name: S::NAME, about: S::ABOUT, version: S::VERSION })
}

impl Package {
    fn write(&self, directory: &Path) -> io::Result<()> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name).join("man");
        fs::create_dir_all(directory)?;
        for source in fs::read_dir(&sources)? {
            let source = source?;
            if source.path().extension().is_some_and(|section| section == "5") {
                fs::copy(source.path(), directory.join(source.file_name()))?;
            }
        }
        for (command, section) in [(&self.daemon, 8), (&self.tool, 1)] {
            let file_name = format!("{}.{section}", command.get_name());
            let rest = fs::read_to_string(sources.join(&file_name))?;
            let page = Page { command: command.clone(), section, rest };
            fs::write(directory.join(file_name), page.render()?)?;
            for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
                generate_to(shell, &mut command.clone(), command.get_name(), directory)?;
            }
        }
        Ok(())
    }
}
