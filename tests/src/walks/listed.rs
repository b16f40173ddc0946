//! What the daemon's tool lists, for comparison with the model.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::step::Fault;
use super::world::World;
use crate::harness::eventually_within;

/// How long the tool may take to be answered, whatever is wrong with the disks.
const ANSWER_PERIOD: Duration = Duration::from_secs(5);

/// All that the tool lists, an object for each item; `None` while it cannot connect, for want of
/// descriptors of the daemon's.
///
/// # Panics
/// When the tool fails.
pub(super) fn listed(world: &World) -> Option<Vec<Value>> {
    if world.has(Fault::FdLimit) {
        return None;
    }
    let mut lines = None;
    let is_told = eventually_within(ANSWER_PERIOD, || {
        lines = list(world);
        lines.is_some()
    });
    assert!(is_told, "the tool is not answered");
    lines
}

fn list(world: &World) -> Option<Vec<Value>> {
    let daemon = world.service.daemon();
    let program = daemon.subject().program;
    let uri = format!("{}:///system?socket={}", program.name(), daemon.admin_socket().display());
    let mut command = Command::new(program.tool());
    let output = command.args(["--connect", &uri, "list", "--json"]).output().expect("the tool");
    let lines = output.status.success().then_some(output.stdout)?;
    let lines = String::from_utf8(lines).expect("JSON is UTF-8");
    Some(lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect())
}

/// The items of a file.
pub(super) fn of_path<'a>(items: &'a [Value], path: &Path) -> Vec<&'a Value> {
    let path = path.to_str().expect("a path of ASCII");
    items.iter().filter(|item| item["path"] == path).collect()
}
