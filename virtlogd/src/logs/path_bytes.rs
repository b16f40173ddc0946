//! Paths that are compared by their bytes.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

/// A path. `Path` would take `a//b` for `a/b`, which are two logs in libvirt.
#[derive(Debug)]
pub(crate) struct PathBytes(pub(crate) Arc<Path>);

impl Borrow<OsStr> for PathBytes {
    fn borrow(&self) -> &OsStr {
        self.0.as_os_str()
    }
}

impl Hash for PathBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_os_str().hash(state);
    }
}

impl PartialEq for PathBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_os_str() == other.0.as_os_str()
    }
}

impl Eq for PathBytes {}
