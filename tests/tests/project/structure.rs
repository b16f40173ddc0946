//! The code's structure: no circle between files, none that is too long, no function that is.

mod circles;
mod source;
mod uses;

use circles::circles;
use source::{Crate, File};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The crates that are looked at, as folders.
const CRATES: [&str; 4] = ["common", "virtlogd", "virtlockd", "systemd/holder"];

/// Lines of a file, of a function, and of half of all files.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;
const MEDIAN_LINES_MAX: usize = 150;

#[test]
fn there_is_no_circle_between_files() {
    let found: Vec<_> = CRATES.iter().flat_map(|name| circles(&Crate::read(name))).collect();
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

#[test]
fn files_are_short() {
    let files = all_files();
    let mut lines: Vec<_> = files.iter().map(File::lines).collect();
    let long: Vec<_> = files.iter().filter(|file| file.lines() > FILE_LINES_MAX).collect();
    assert!(long.is_empty(), "{long:#?}");
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    assert!(median <= MEDIAN_LINES_MAX, "half of all files have over {median} lines");
}

#[test]
fn functions_are_short_and_questions_change_nothing() {
    let mut functions = Functions::default();
    for file in all_files() {
        functions.file = file.path().display().to_string();
        functions.visit_file(file.syntax());
    }
    assert!(functions.faults.is_empty(), "{}", functions.faults.join("\n"));
}

fn all_files() -> Vec<File> {
    CRATES.into_iter().flat_map(|name| Crate::read(name).into_files()).collect()
}

#[derive(Default)]
struct Functions {
    file: String,
    faults: Vec<String>,
}

impl Functions {
    fn look_at(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let name = signature.ident.to_string();
        let lines = block.span().end().line - signature.span().start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            self.faults.push(format!("{}: {name} has {lines} lines", self.file));
        }
        let changes = signature.receiver().is_some_and(|this| this.mutability.is_some());
        if changes
            && name.starts_with("is_")
            && signature.receiver().is_some_and(|it| it.reference.is_some())
        {
            self.faults.push(format!("{}: {name} takes &mut self", self.file));
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.look_at(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.look_at(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}
