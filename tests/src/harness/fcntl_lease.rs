//! `fcntl(2)` leases, which file servers have on files for their clients.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Takes the lease (`F_SETLEASE`, 1024; its type is 0, 1 or 2, as that of a lock), and gives it up when
/// it is told to, or keeps it.
const SCRIPT: &str = r#"
my ($path, $type, $gives_up) = @ARGV;
$SIG{IO} = $gives_up ? sub { fcntl($file, 1024, 2) } : "IGNORE";
open($file, $type ? "+<" : "<", $path) or die "$path: $!";
fcntl($file, 1024, $type + 0) or die "lease: $!";
setpriority(0, 0, -20) if $gives_up; # Others may be busy, a file server is quick.
syswrite(STDOUT, ".");
sleep 1 while 1;
"#;

/// A process that has such a lease.
#[derive(Debug)]
pub struct FcntlLease(Child);

impl FcntlLease {
    /// A lease against those who want to write, kept whatever the kernel says.
    pub fn read(path: &Path) -> Self {
        Self::take(path, ["0", ""])
    }

    /// A lease against everybody, likewise. Nobody may have the file open.
    pub fn write(path: &Path) -> Self {
        Self::take(path, ["1", ""])
    }

    /// The same, given up as soon as the kernel says so.
    pub fn polite(path: &Path) -> Self {
        Self::take(path, ["1", "1"])
    }

    /// Ends the process, and its lease with it.
    pub fn give_up(self) {
        drop(self);
    }

    fn take(path: &Path, kind: [&str; 2]) -> Self {
        let mut command = Command::new("perl");
        command.args(["-e", SCRIPT]).arg(path).args(kind);
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
