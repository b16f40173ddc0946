//! `fcntl(2)` leases, which file servers have on files for their clients.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Takes the lease (`F_SETLEASE`, 1024; its type is 0 or 1, as that of a lock) and keeps it whatever it
/// is told.
const SCRIPT: &str = r#"
my ($path, $type) = @ARGV;
$SIG{IO} = "IGNORE";
open(my $file, $type ? "+<" : "<", $path) or die "$path: $!";
fcntl($file, 1024, $type + 0) or die "lease: $!";
syswrite(STDOUT, ".");
sleep 1 while 1;
"#;

/// A process that has such a lease, and does not give it up when the kernel tells it to.
#[derive(Debug)]
pub struct FcntlLease(Child);

impl FcntlLease {
    /// A lease against those who want to write.
    pub fn read(path: &Path) -> Self {
        Self::take(path, "0")
    }

    /// A lease against everybody. Nobody may have the file open.
    pub fn write(path: &Path) -> Self {
        Self::take(path, "1")
    }

    /// Ends the process, and its lease with it.
    pub fn give_up(self) {
        drop(self);
    }

    fn take(path: &Path, lease_type: &str) -> Self {
        let mut command = Command::new("perl");
        command.args(["-e", SCRIPT]).arg(path).arg(lease_type);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starting perl");
        let stdout = child.stdout.as_mut().expect("its output is a pipe");
        stdout.read_exact(&mut [0]).expect("it has the lease");
        Self(child)
    }
}

impl Drop for FcntlLease {
    fn drop(&mut self) {
        self.0.kill().expect("killing a process");
        self.0.wait().expect("waiting for a process");
    }
}
