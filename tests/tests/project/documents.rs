//! The documents in the tree: what one links to is there.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no documents of ours.
const PASSED_OVER: [&str; 2] = ["target", ".git"];

#[test]
fn relative_links_lead_to_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let documents = files_in(&root, "md");
    assert!(documents.iter().any(|document| document == &root.join("README.md")), "{documents:?}");
    let broken: Vec<_> = documents.iter().flat_map(|document| broken_links(document)).collect();
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn sources_that_the_architecture_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("common/ARCHITECTURE.md")).unwrap();
    let sources: Vec<_> = ["common", "virtlogd", "virtlockd", "tests"]
        .into_iter()
        .flat_map(|name| files_in(&root.join(name), "rs"))
        .collect();
    let named: HashSet<_> =
        text.split('`').skip(1).step_by(2).filter(|it| it.ends_with(".rs")).collect();
    assert!(named.len() > 50, "only {} are named", named.len());
    let exists = |name: &&str| sources.iter().any(|source| source.ends_with(name));
    let missing: Vec<_> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let document = directory.path().join("page.md");
    let text = "# A `code` title, twice\n[a](other.md) [b](#no-such) [c](#a-code-title-twice)\n\
        ```\n# No heading: [d](not-a-link.md)\n```\n    [e](code.md)\n`[f](code.md)` [g](https://h)\n";
    fs::write(&document, text).unwrap();
    let found = broken_links(&document);
    let targets: Vec<_> = found.iter().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(targets, ["other.md", "#no-such"]);
}

/// All files below a directory that have this extension.
fn files_in(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let entries = entries.filter(|entry| {
        let name = entry.file_name();
        !PASSED_OVER.iter().any(|passed_over| name == *passed_over)
    });
    let found = entries.flat_map(|entry| {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => files_in(&path, extension),
            false if path.extension().is_some_and(|it| it == extension) => vec![path],
            false => Vec::new(),
        }
    });
    found.collect()
}

/// The links of a document that lead nowhere, as `DOCUMENT: TARGET`.
fn broken_links(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let directory = document.parent().unwrap();
    let is_broken = |target: &str| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { document.to_owned() } else { directory.join(file) };
        !file.exists() || (!heading.is_empty() && !headings_of(&file).contains(heading))
    };
    let relative = links_of(&text).into_iter().filter(|target| !target.contains("://"));
    relative
        .filter(|target| is_broken(target))
        .map(|target| format!("{}: {target}", document.display()))
        .collect()
}

fn links_of(text: &str) -> Vec<&str> {
    let prose = prose_of(text).flat_map(|line| line.split('`').step_by(2));
    let ends = prose.flat_map(|piece| piece.split("](").skip(1));
    ends.filter_map(|end| end.split_once(')')).map(|(target, _)| target).collect()
}

/// The headings of a document, as links name them.
fn headings_of(document: &Path) -> HashSet<String> {
    let text = fs::read_to_string(document).unwrap();
    let headings = prose_of(&text).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

/// Lines that are no code.
fn prose_of(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence && !line.starts_with("    ")
    })
}
