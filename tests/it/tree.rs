//! The sources hold to the map in `src/lib.rs`: imports go down its layers only, and every file says what it is.

use crate::support::proxy::root;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The modules in the order of the map's list, lowest first.
fn layers() -> Vec<String> {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let list = map.split("```text").nth(1).unwrap().split("```").next().unwrap();
    let words = list.split_whitespace().filter(|w| w.bytes().all(|b| b.is_ascii_lowercase()));
    words.map(str::to_owned).collect()
}

/// All source files below `directory`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// The module of a file: the first part of its path below `src`.
fn module(file: &Path) -> String {
    let first = file.strip_prefix(root().join("src")).unwrap().iter().next().unwrap();
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The modules that a source names by `crate::` or `larder::`, in a path or at the head of a group.
fn imports(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for root in ["crate::", "larder::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                found.extend(heads(group));
            } else {
                found.insert(word(rest));
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The first name of each member of a group of imports, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut begins) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !c.is_whitespace() => {
                heads.push(word(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn a_module_imports_only_from_lower_layers() {
    let layers = layers();
    let rank = |module: &str| layers.iter().position(|m| m == module);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in sources(&root().join("src")) {
        let module = module(&file);
        if module == "lib" {
            continue;
        }
        let own = rank(&module).unwrap_or_else(|| panic!("{module} is not on the map in src/lib.rs"));
        seen.insert(module.clone());
        for import in imports(&std::fs::read_to_string(&file).unwrap()) {
            if rank(&import).is_none_or(|other| other > own) {
                wrong.push(format!("{}: {module} imports {import}", file.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(seen, layers.iter().cloned().collect(), "the map has what the tree has");
}

#[test]
fn imports_are_found_in_paths_and_groups() {
    let source = "use crate::{store, upstream::{Call, x}};\nuse crate::body::Body;\nlet a = crate::clock::now();\n// crate::cli\n";
    let found: Vec<_> = imports(source).into_iter().collect();
    assert_eq!(found, ["body", "clock", "store", "upstream"]);
}

#[test]
fn every_file_says_what_it_is() {
    for directory in ["src", "tests/it", "tests/benches", "tests/fuzz/src"] {
        for file in sources(&root().join(directory)) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{} has no header", file.display());
        }
    }
}
