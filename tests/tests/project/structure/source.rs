//! A crate's files as syntax trees, by the modules that they are.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A module's place in its crate: the names from the root on.
pub(crate) type Module = Vec<String>;

pub(crate) struct File {
    path: PathBuf,
    lines: usize,
    syntax: syn::File,
}

/// A crate's library.
pub(crate) struct Crate {
    files: BTreeMap<Module, File>,
}

impl Crate {
    /// Reads the crate in the folder `name`, from `src/lib.rs` on.
    pub(crate) fn read(name: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut files = BTreeMap::new();
        read_module(&source.join("lib.rs"), &source, Module::new(), &mut files);
        Self { files }
    }

    /// The file that is a module.
    pub(crate) fn file(&self, module: &[String]) -> Option<&File> {
        self.files.get(module)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&Module, &File)> {
        self.files.iter()
    }

    pub(crate) fn into_files(self) -> Vec<File> {
        self.files.into_values().collect()
    }
}

impl File {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    pub(crate) fn syntax(&self) -> &syn::File {
        &self.syntax
    }
}

impl fmt::Debug for File {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} lines", self.path.display(), self.lines)
    }
}

/// Whether an item is for tests alone.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

/// Reads a module's file, and those of its children, which are in `children`.
fn read_module(path: &Path, children: &Path, module: Module, files: &mut BTreeMap<Module, File>) {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let syntax =
        syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for item in &syntax.items {
        if let syn::Item::Mod(child) = item
            && child.content.is_none()
            && !is_for_tests(&child.attrs)
        {
            let name = child.ident.to_string();
            let (folder, file) = (children.join(&name), children.join(format!("{name}.rs")));
            let file = if file.exists() { file } else { folder.join("mod.rs") };
            let place = module.iter().cloned().chain([name]).collect();
            read_module(&file, &folder, place, files);
        }
    }
    let lines = text.lines().count();
    files.insert(module, File { path: path.to_owned(), lines, syntax });
}
