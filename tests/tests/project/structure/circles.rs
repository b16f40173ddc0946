//! Files that use each other, directly or by others.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Crate, Module};
use super::uses::{Names, Uses};

type Graph = BTreeMap<Module, Uses>;

/// Each circle as a line: the files that all lead to each other, and what leads where among them.
pub(crate) fn circles(source: &Crate) -> Vec<String> {
    let names = Names::of(source);
    let uses = source.files().map(|(module, file)| (module.clone(), names.used_by(module, file)));
    let graph: Graph = uses.collect();
    let reached: BTreeMap<_, _> = graph.keys().map(|it| (it, reached_from(&graph, it))).collect();
    let mut found = BTreeSet::new();
    for module in graph.keys().filter(|module| reached[*module].contains(*module)) {
        let others = reached[module].iter().filter(|other| reached[*other].contains(module));
        found.insert(others.cloned().collect::<BTreeSet<_>>());
    }
    found.iter().map(|circle| describe(&graph, circle)).collect()
}

fn reached_from(graph: &Graph, start: &Module) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<_> = graph[start].keys().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module.clone()) {
            next.extend(graph[module].keys());
        }
    }
    reached
}

fn describe(graph: &Graph, circle: &BTreeSet<Module>) -> String {
    let name =
        |module: &Module| if module.is_empty() { "lib".to_owned() } else { module.join("::") };
    let lines = circle.iter().map(|module| {
        let used = graph[module].iter().filter(|(used, _)| circle.contains(*used));
        let used: Vec<_> =
            used.map(|(used, paths)| format!("{} ({})", name(used), paths.join(", "))).collect();
        format!("  {} -> {}", name(module), used.join("; "))
    });
    format!("{} files:\n{}", circle.len(), lines.collect::<Vec<_>>().join("\n"))
}
