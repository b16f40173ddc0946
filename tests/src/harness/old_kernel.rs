//! A kernel that cannot say which process is at the other end of a socket, as far as a daemon sees.

use nix::libc;

/// What [`crate::harness::Setup::peer_pidfds_fail`] has the kernel answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPeerPidfd {
    /// Linux before 6.5.
    Unknown,
    /// Linux 6.5 to 6.15, when the process has ended and was reaped.
    HasEnded,
}

/// Executes its arguments behind the first under a filter: that error for `SO_PEERPIDFD`.
const SCRIPT: &str = r#"
use POSIX ();
my %numbers = (x86_64 => [0xC000003E, 55, 317], aarch64 => [0xC00000B7, 209, 277]);
my ($arch, $getsockopt, $seccomp) = @{$numbers{(POSIX::uname())[4]} or die "which machine is it?"};
my $errno = shift;
my ($load, $skip_unless, $return) = (0x20, 0x15, 0x06);
my $filter = pack "(SCCL)*",
    $load, 0, 0, 4, $skip_unless, 0, 7, $arch,
    $load, 0, 0, 0, $skip_unless, 0, 5, $getsockopt,
    $load, 0, 0, 24, $skip_unless, 0, 3, 1,
    $load, 0, 0, 32, $skip_unless, 0, 1, 77,
    $return, 0, 0, 0x00050000 | $errno, $return, 0, 0, 0x7fff0000;
my $program = pack "Sx6P", length($filter) / 8, $filter;
syscall($seccomp, 1, 0, $program) == 0 or die "seccomp: $!";
exec @ARGV or die "exec: $!";
"#;

impl NoPeerPidfd {
    /// What runs a daemon so.
    pub(super) fn words(self) -> [String; 4] {
        let errno = match self {
            Self::Unknown => libc::ENOPROTOOPT,
            Self::HasEnded => libc::ESRCH,
        };
        ["perl", "-e", SCRIPT, &errno.to_string()].map(str::to_owned)
    }
}
