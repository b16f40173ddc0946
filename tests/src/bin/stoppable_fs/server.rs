//! What the file system does: the same thing to a directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::faults::Faults;
use crate::wire::{self, Answer, Request, WRITE_BYTES_MAX};

/// The node of the mountpoint, by the protocol.
const ROOT: u64 = 1;

/// `getattr_in.getattr_flags`: there is a file handle.
const HANDLE_VALID: u32 = 1;

pub(crate) struct Server {
    faults: Faults,
    paths: HashMap<u64, PathBuf>,
    nodes: HashMap<PathBuf, u64>,
    files: HashMap<u64, File>,
    listings: HashMap<u64, Vec<(u64, std::ffi::OsString)>>,
    last: u64,
}

impl Server {
    pub(crate) fn new(backing: &Path, faults: Faults) -> Self {
        Self {
            faults,
            paths: HashMap::from([(ROOT, backing.to_owned())]),
            nodes: HashMap::from([(backing.to_owned(), ROOT)]),
            files: HashMap::new(),
            listings: HashMap::new(),
            last: ROOT,
        }
    }

    /// Serves until the file system is unmounted. What `first` answers is not asked further.
    pub(crate) fn serve(
        mut self,
        mut device: &File,
        mut first: impl FnMut(&Request<'_>) -> Option<io::Result<Answer>>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 65_536];
        loop {
            let len = match device.read(&mut buffer) {
                Ok(len) => len,
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENODEV) => return Ok(()),
                    Some(libc::ENOENT | libc::EINTR | libc::EAGAIN) => continue,
                    _ => return Err(error),
                },
            };
            let request = Request::parse(&buffer[..len]);
            if matches!(request.opcode, wire::FORGET | wire::BATCH_FORGET | wire::INTERRUPT) {
                continue;
            }
            let result = first(&request).unwrap_or_else(|| self.answer(&request));
            let result = result.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO));
            match device.write(&Answer::framed(result, request.unique)) {
                // Whoever asked was killed meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                result => drop(result?),
            }
        }
    }

    fn answer(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let empty = Ok(Answer::default());
        self.faults.strike(request)?;
        match request.opcode {
            wire::INIT => Ok(Answer::init(0)),
            wire::LOOKUP => self.entry(self.child(request.node, request.names(0).0)?),
            wire::GETATTR => self.attributes(request),
            wire::SETATTR => self.set_attributes(request),
            wire::MKDIR => {
                let path = self.child(request.node, request.names(8).0)?;
                fs::create_dir(&path)?;
                self.entry(path)
            }
            wire::UNLINK => self.remove(request, |path| fs::remove_file(path)),
            wire::RMDIR => self.remove(request, |path| fs::remove_dir(path)),
            wire::RENAME => self.rename(request, 8),
            wire::RENAME2 => self.rename(request, 16),
            wire::OPEN => self.open(request),
            wire::CREATE => self.create(request),
            wire::READ => self.read(request),
            wire::WRITE => self.write(request),
            wire::STATFS => Ok(Answer::default().zeros(40).u32(4096).u32(255).u32(4096).zeros(28)),
            // The kernel does not ask again then, and whoever is killed can end while this hangs.
            wire::FLUSH if self.faults.are_possible() => {
                Err(io::Error::from_raw_os_error(libc::ENOSYS))
            }
            wire::FLUSH => empty,
            wire::RELEASE => {
                self.files.remove(&request.u64(0));
                empty
            }
            wire::OPENDIR => self.open_directory(request),
            wire::READDIR => self.read_directory(request),
            wire::RELEASEDIR => {
                self.listings.remove(&request.u64(0));
                empty
            }
            _ => Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        }
    }

    fn path(&self, node: u64) -> io::Result<&Path> {
        let path = self.paths.get(&node).map(PathBuf::as_path);
        path.ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    fn child(&self, node: u64, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(node)?.join(name))
    }

    fn file(&self, handle: u64) -> io::Result<&File> {
        self.files.get(&handle).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn entry(&mut self, path: PathBuf) -> io::Result<Answer> {
        let metadata = fs::symlink_metadata(&path)?;
        Ok(Answer::default().entry(self.node(path), &metadata))
    }

    fn node(&mut self, path: PathBuf) -> u64 {
        if let Some(&node) = self.nodes.get(&path) {
            return node;
        }
        self.last += 1;
        self.nodes.insert(path.clone(), self.last);
        self.paths.insert(self.last, path);
        self.last
    }

    fn attributes(&self, request: &Request<'_>) -> io::Result<Answer> {
        let with_handle = request.u32(0) & HANDLE_VALID != 0;
        let metadata = self.metadata(request.node, with_handle.then(|| request.u64(8)))?;
        Ok(Answer::default().attributes_out(&metadata))
    }

    fn metadata(&self, node: u64, handle: Option<u64>) -> io::Result<Metadata> {
        match handle {
            Some(handle) => self.file(handle)?.metadata(),
            None => fs::symlink_metadata(self.path(node)?),
        }
    }

    /// Only the size; permissions and times are taken and forgotten.
    fn set_attributes(&self, request: &Request<'_>) -> io::Result<Answer> {
        if request.u32(0) & wire::SIZE_VALID != 0 {
            let path = self.path(request.node)?;
            File::options().write(true).open(path)?.set_len(request.u64(16))?;
        }
        let metadata = self.metadata(request.node, None)?;
        Ok(Answer::default().attributes_out(&metadata))
    }

    fn remove(
        &mut self,
        request: &Request<'_>,
        remove: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Answer> {
        let path = self.child(request.node, request.names(0).0)?;
        remove(&path)?;
        self.nodes.remove(&path);
        Ok(Answer::default())
    }

    fn rename(&mut self, request: &Request<'_>, names_at: usize) -> io::Result<Answer> {
        let (from, to) = request.names(names_at);
        let (from, to) = (self.child(request.node, from)?, self.child(request.u64(0), to)?);
        fs::rename(&from, &to)?;
        if let Some(node) = self.nodes.remove(&from) {
            self.nodes.insert(to.clone(), node);
            self.paths.insert(node, to);
        }
        Ok(Answer::default())
    }

    fn open(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let mode = request.u32(0).cast_signed() & libc::O_ACCMODE;
        let mut options = File::options();
        options.read(mode != libc::O_WRONLY).write(mode != libc::O_RDONLY);
        let file = options.open(self.path(request.node)?)?;
        Ok(Answer::default().opened(self.handle(file)))
    }

    fn create(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let path = self.child(request.node, request.names(16).0)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(request.u32(4) & 0o7777);
        let file = options.open(&path)?;
        let entry = self.entry(path)?;
        Ok(entry.opened(self.handle(file)))
    }

    fn handle(&mut self, file: File) -> u64 {
        self.last += 1;
        self.files.insert(self.last, file);
        self.last
    }

    fn read(&self, request: &Request<'_>) -> io::Result<Answer> {
        let mut bytes = vec![0; request.u32(16) as usize];
        let len = self.file(request.u64(0))?.read_at(&mut bytes, request.u64(8))?;
        Ok(Answer::default().bytes(&bytes[..len]))
    }

    /// A disk that is nearly full takes less than it is given.
    fn write(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let data = request.data(40);
        let len = self.faults.take_room(data.len());
        let stored = self.file(request.u64(0))?.write_at(&data[..len], request.u64(8))?;
        Ok(Answer::default().u32(u32::try_from(stored).unwrap_or(0)).u32(0))
    }

    fn open_directory(&mut self, request: &Request<'_>) -> io::Result<Answer> {
        let entries = fs::read_dir(self.path(request.node)?)?;
        let listing = entries.map(|entry| {
            let entry = entry?;
            Ok((entry.metadata()?.ino(), entry.file_name()))
        });
        let listing = listing.collect::<io::Result<_>>()?;
        self.last += 1;
        self.listings.insert(self.last, listing);
        Ok(Answer::default().opened(self.last))
    }

    fn read_directory(&self, request: &Request<'_>) -> io::Result<Answer> {
        let (offset, size) = (request.u64(8), request.u32(16) as usize);
        let mut answer = Answer::default();
        let listing = self.listings.get(&request.u64(0)).into_iter().flatten();
        for (index, (inode, name)) in (1..).zip(listing) {
            if index > offset && answer.len() + 32 + name.len() <= size {
                answer = answer.directory_entry(*inode, index, name);
            }
        }
        Ok(answer)
    }
}
