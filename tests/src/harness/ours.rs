//! Where our daemons are: built here and now, so that no test runs a stale one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The directory of our executables: `OURS_DIR`, or this build's, after building them.
pub(super) fn directory() -> Result<PathBuf, String> {
    DIRECTORY.clone()
}

static DIRECTORY: LazyLock<Result<PathBuf, String>> =
    LazyLock::new(|| match std::env::var_os("OURS_DIR") {
        Some(directory) => Ok(PathBuf::from(directory)),
        None => build(),
    });

/// Our executable with this name.
///
/// # Panics
/// When it was not built.
pub fn ours(name: &str) -> PathBuf {
    directory().expect("our executables").join(name)
}

/// Builds into the profile directory that this test executable lies in.
fn build() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let directory = executable.ancestors().nth(2).ok_or("the test executable has no directory")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => return Err(format!("no profile is built in {}", directory.display())),
    };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--profile", profile])
        .args(["-p", "virtlogd", "-p", "virtlockd", "-p", "virtfdhold"])
        .arg("--target-dir")
        .arg(directory.parent().unwrap_or(Path::new("target")))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    assert!(built.success(), "our daemons do not build");
    Ok(directory.to_path_buf())
}
