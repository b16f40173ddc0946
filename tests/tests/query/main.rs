//! Our read-only program on the admin socket, and the tools that use it.

mod alerts;
mod exposition;
mod expression;
mod follow_all;
mod follower;
mod metrics;
mod pages;
mod protocol;
mod tool;
mod virtlockctl;
mod virtlogctl;

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tests::wire::{Connection, Reader, RpcError, Writer};

/// Number of the program, "quer" in ASCII.
const PROGRAM: u32 = 0x7175_6572;

const STATUS: i32 = 1;
const LIST: i32 = 2;

/// A process that leases can belong to.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self::start_with(Stdio::null())
    }

    /// One that has something open, as its standard output.
    fn start_with(stdout: impl Into<Stdio>) -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("60").stdout(stdout).spawn().expect("sleep can be run"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Calls a procedure with JSON in text.
fn query(
    connection: &mut Connection,
    procedure: i32,
    arguments: impl AsRef<[u8]>,
) -> Result<Value, RpcError> {
    let payload = Writer::new().string(arguments).into_bytes();
    let (payload, _) = connection.call(PROGRAM, procedure, &payload)?;
    Ok(serde_json::from_slice(Reader::new(&payload).string()).expect("JSON"))
}

/// All items, on pages of `limit_bytes`, with something done between two pages.
fn list(connection: &mut Connection, limit_bytes: usize, mut between: impl FnMut()) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let arguments = format!(r#"{{"after":"{after}","limit_bytes":{limit_bytes}}}"#);
        let mut page = query(connection, LIST, arguments).expect("a page");
        items.append(page["items"].as_array_mut().expect("items"));
        let Some(next) = page["next"].as_str() else { return items };
        next.clone_into(&mut after);
        between();
    }
}
