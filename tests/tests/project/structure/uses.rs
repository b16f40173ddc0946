//! Which files a file names something of. Re-exports lead on to where an item is defined, and are no
//! uses themselves. What is for tests alone does not count.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use syn::visit::{self, Visit};

use super::source::{Crate, File, Module, is_for_tests};

/// How many re-exports are followed.
const LEADS_MAX: usize = 16;

/// The modules that a file uses, and the paths that lead there.
pub(crate) type Uses = BTreeMap<Module, Vec<String>>;

/// Names defined and imported by the modules of a crate.
pub(crate) struct Names<'a> {
    source: &'a Crate,
    scopes: HashMap<Module, Scope>,
}

/// The names in one module.
#[derive(Default)]
struct Scope {
    defined: HashSet<String>,
    /// By their names here, the paths of what is imported.
    imported: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

impl<'a> Names<'a> {
    pub(crate) fn of(source: &'a Crate) -> Self {
        let scopes = source.files().map(|(module, file)| (module.clone(), Scope::of(file)));
        Self { source, scopes: scopes.collect() }
    }

    /// The modules that a file uses, itself apart, and by which paths.
    pub(crate) fn used_by(&self, module: &Module, file: &File) -> Uses {
        let mut paths = Paths::default();
        paths.visit_file(file.syntax());
        let mut uses = Uses::new();
        for path in &paths.found {
            if let Some(used) = self.definition(module, path, LEADS_MAX).filter(|it| it != module) {
                uses.entry(used).or_default().push(path.join("::"));
            }
        }
        uses
    }

    /// The module that defines what `path` leads to, seen from `module`.
    fn definition(&self, module: &Module, path: &[String], leads: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(Module::new(), rest, leads),
            "self" => self.walk(module.clone(), rest, leads),
            "super" => {
                let (_, parent) = module.split_last()?;
                let parent = parent.to_vec();
                match rest.first().map(String::as_str) {
                    Some("super") => self.definition(&parent, rest, leads),
                    _ => self.walk(parent, rest, leads),
                }
            }
            _ => self.walk_name(module, path, leads),
        }
    }

    /// A path that begins with a name of this module's, if it does.
    fn walk_name(&self, module: &Module, path: &[String], leads: usize) -> Option<Module> {
        let first = path.first()?;
        let scope = self.scopes.get(module)?;
        let child = self.child(module, first);
        (child.is_some() || scope.knows(first)).then(|| self.walk(module.clone(), path, leads))?
    }

    fn walk(&self, module: Module, path: &[String], leads: usize) -> Option<Module> {
        let Some((name, rest)) = path.split_first() else { return Some(module) };
        if let Some(child) = self.child(&module, name) {
            return self.walk(child, rest, leads);
        }
        let scope = self.scopes.get(&module)?;
        if scope.defined.contains(name) || leads == 0 {
            return Some(module);
        }
        if let Some(lead) = scope.imported.get(name) {
            let path: Vec<_> = lead.iter().chain(rest).cloned().collect();
            return self.definition(&module, &path, leads - 1);
        }
        let globs = scope.globs.iter().map(|glob| [glob.as_slice(), path].concat());
        globs.filter_map(|path| self.definition(&module, &path, leads - 1)).next()
    }

    fn child(&self, module: &Module, name: &str) -> Option<Module> {
        let child: Module = module.iter().cloned().chain([name.to_owned()]).collect();
        self.source.file(&child).is_some().then_some(child)
    }
}

impl Scope {
    fn of(file: &File) -> Self {
        let mut scope = Self::default();
        for item in &file.syntax().items {
            match item {
                syn::Item::Use(item) if !is_for_tests(&item.attrs) => scope.import(&item.tree, &[]),
                _ => scope.defined.extend(name_of(item)),
            }
        }
        scope
    }

    fn knows(&self, name: &str) -> bool {
        self.imported.contains_key(name)
    }

    fn import(&mut self, tree: &syn::UseTree, before: &[String]) {
        each_leaf(tree, before, &mut |path, name| match name {
            Some(name) => drop(self.imported.insert(name, path)),
            None => self.globs.push(path),
        });
    }
}

/// Calls `found` with each path that is imported and its name here; none for `*`.
fn each_leaf(
    tree: &syn::UseTree,
    before: &[String],
    found: &mut impl FnMut(Vec<String>, Option<String>),
) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        syn::UseTree::Path(path) => each_leaf(&path.tree, &with(&path.ident), found),
        syn::UseTree::Name(name) if name.ident == "self" => {
            found(before.to_vec(), before.last().cloned());
        }
        syn::UseTree::Name(name) => found(with(&name.ident), Some(name.ident.to_string())),
        syn::UseTree::Rename(name) => found(with(&name.ident), Some(name.rename.to_string())),
        syn::UseTree::Glob(_) => found(before.to_vec(), None),
        syn::UseTree::Group(group) => {
            group.items.iter().for_each(|tree| each_leaf(tree, before, found));
        }
    }
}

fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

/// All paths in a file.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let is_left_out = match item {
            syn::Item::Mod(item) => is_for_tests(&item.attrs),
            // A re-export is no use.
            syn::Item::Use(item) => {
                is_for_tests(&item.attrs) || !matches!(item.vis, syn::Visibility::Inherited)
            }
            _ => false,
        };
        if !is_left_out {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        each_leaf(&item.tree, &[], &mut |path, _| self.found.extend([path]));
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}
