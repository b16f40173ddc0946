//! The files that everybody wants, and the names that they go by.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use crate::harness::Host;
use crate::random::Random;
use crate::walks::locks::{File, file};

/// Disk images, each with several names.
const IMAGES: usize = 3;

/// Files that are made automatically, in a lockspace of their own.
const LEASES: usize = 2;

/// Lockspace and name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) space: String,
    pub(super) name: String,
}

/// All names, and the files behind them.
#[derive(Debug)]
pub(super) struct Names {
    directory: PathBuf,
    pub(super) all: Vec<Name>,
    pub(super) spaces: Vec<String>,
    /// Each file that there ever was, with a name that nobody else knows.
    pub(super) files: BTreeMap<File, PathBuf>,
}

impl Name {
    fn new(space: &str, name: impl Into<String>) -> Self {
        Self { space: space.to_owned(), name: name.into() }
    }

    /// The path, as the daemon joins it.
    pub(super) fn path(&self) -> PathBuf {
        match self.space.as_str() {
            "" => PathBuf::from(&self.name),
            space => PathBuf::from(format!("{space}/{}", self.name)),
        }
    }

    /// Whether it leads to nowhere by way of a symbolic link.
    pub(super) fn dangles(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok() && !self.path().exists()
    }
}

impl Names {
    /// Makes the images and their names. A daemon that is started later sees the bind mount too.
    pub(super) fn make(host: &Host) -> Self {
        let directory = host.file("");
        let directory = PathBuf::from(directory.to_str().expect("ASCII").trim_end_matches('/'));
        for folder in ["images", "links", "bound", "leases", "inodes"] {
            fs::create_dir(directory.join(folder)).expect("a directory");
        }
        let (images, bound) = (directory.join("images"), directory.join("bound"));
        let none = None::<&str>;
        mount(Some(&images), &bound, none, MsFlags::MS_BIND, none).expect("a bind mount");
        let mut names =
            Self { directory, all: Vec::new(), spaces: Vec::new(), files: BTreeMap::new() };
        names.name_all();
        (0..IMAGES).for_each(|number| names.restore(number));
        names
    }

    fn name_all(&mut self) {
        let text = |name: &str| self.directory.join(name).to_str().expect("ASCII").to_owned();
        let (images, links, leases) = (text("images"), text("links"), text("leases"));
        let (bound, same, same_leases) = (text("bound"), text("images/"), text("leases/"));
        for number in 0..IMAGES {
            self.all.extend([
                Name::new("", format!("{images}/{number}")),
                Name::new("", format!("{links}/../images/{number}")),
                Name::new("", format!("{links}/hard{number}")),
                Name::new("", format!("{links}/soft{number}")),
                Name::new("", format!("{bound}/{number}")),
                Name::new(&images, number.to_string()),
                Name::new(&same, number.to_string()),
                Name::new(&links, format!("hard{number}")),
            ]);
        }
        for number in 0..LEASES {
            self.all.extend([
                Name::new(&leases, format!("lease{number}")),
                Name::new(&leases, format!("./lease{number}")),
                Name::new(&same_leases, format!("lease{number}")),
                Name::new("", format!("{leases}/lease{number}")),
            ]);
        }
        let new = text("new/space");
        self.all.push(Name::new(&new, "lease"));
        self.spaces = vec![images, same, links, leases, same_leases, new];
    }

    /// Whether files of this name are made and removed by the daemon.
    pub(super) fn is_automatic(&self, name: &Name) -> bool {
        !["images", "links", "bound"]
            .iter()
            .any(|folder| name.path().starts_with(self.directory.join(folder)))
    }

    /// Which file each name leads to.
    pub(super) fn look(&mut self) -> BTreeMap<Name, Option<File>> {
        let names = self.all.clone();
        names.into_iter().map(|name| (name.clone(), self.look_at(&name))).collect()
    }

    /// Which file a name leads to. One that was made for the dead goes at any moment.
    pub(super) fn look_at(&mut self, name: &Name) -> Option<File> {
        let found = fs::metadata(name.path()).ok()?;
        let file = file(found.dev(), found.ino());
        if !self.files.contains_key(&file) {
            let hidden = self.directory.join(format!("inodes/{}", self.files.len()));
            match self.link(&name.path(), &hidden) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                result => result.expect("another name"),
            }
            self.files.insert(file, hidden);
        }
        Some(file)
    }

    fn link(&self, path: &Path, hidden: &Path) -> io::Result<()> {
        let path = fs::canonicalize(path)?;
        // Not at the mount that it is bound to, which a link cannot lead out of.
        let path = match path.strip_prefix(self.directory.join("bound")) {
            Ok(rest) => self.directory.join("images").join(rest),
            Err(_) => path,
        };
        fs::hard_link(path, hidden)
    }

    /// Another file takes an image's name, or it goes, or it goes by all its names again.
    pub(super) fn replace(&mut self, dice: &mut Random) -> String {
        let number = dice.below(IMAGES);
        let (image, new) = (self.image(number), self.directory.join("images").join("new"));
        let way = dice.of(&["renamed over", "unlinked", "made anew", "restored"]);
        match way {
            "renamed over" => {
                fs::write(&new, "").and_then(|()| fs::rename(&new, &image)).expect("renaming");
            }
            "unlinked" => drop(fs::remove_file(&image)),
            "made anew" => {
                drop(fs::remove_file(&image));
                fs::write(&image, "").expect("making an image");
            }
            _ => self.restore(number),
        }
        way.to_owned()
    }

    fn restore(&self, number: usize) {
        let image = self.image(number);
        if !image.exists() {
            fs::write(&image, "").expect("making an image");
        }
        let links = self.directory.join("links");
        let (hard, soft) =
            (links.join(format!("hard{number}")), links.join(format!("soft{number}")));
        for link in [&hard, &soft] {
            drop(fs::remove_file(link));
        }
        fs::hard_link(&image, hard).expect("a hard link");
        symlink(Path::new("../images").join(number.to_string()), soft).expect("a symbolic link");
    }

    fn image(&self, number: usize) -> PathBuf {
        self.directory.join("images").join(number.to_string())
    }
}
