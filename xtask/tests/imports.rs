//! Imports point one way: no circle of files, no circle of folders, and in the extension from the
//! upper layers to the lower ones only. docs/architecture.md draws the same map for readers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The crates of the repository, by the file of their root module.
const CRATES: [&str; 4] = [
    "core/src/lib.rs",
    "src/lib.rs",
    "tests/kit/src/lib.rs",
    "xtask/src/main.rs",
];

/// The rooms of the extension. A room imports from layers below its own, never from beside or above.
const LAYERS: [&[&str]; 10] = [
    &["lib"],
    &["compat"],
    &["rpc", "inbound", "audit", "worker"],
    &["lifecycle"],
    &["delivery"],
    &["secrets", "references", "caller", "inbound_ids"],
    &["host", "instance", "wake"],
    &["limits"],
    &["change", "status", "tables", "settings", "error"],
    &["pg", "text_enum"],
];

type Module = Vec<String>;

/// Which files of a crate import from which others.
#[derive(Default)]
struct Imports {
    files: BTreeMap<Module, PathBuf>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    fn of_crate(root: &Path) -> Imports {
        let mut imports = Imports::default();
        let folder = root.parent().expect("a root module lies in a folder");
        imports.find(folder, root, &[]);
        let modules: Vec<(Module, PathBuf)> = imports.files.clone().into_iter().collect();
        for (module, path) in modules {
            let text = fs::read_to_string(&path).expect("a source file");
            let tokens = text
                .parse()
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut used = BTreeSet::new();
            imports.paths(&module, &module, tokens, &mut used);
            used.remove(&module);
            imports.edges.insert(module, used);
        }
        imports
    }

    fn find(&mut self, folder: &Path, root: &Path, module: &[String]) {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder)
            .expect("a source folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let mut inner = module.to_vec();
            if path.is_dir() {
                inner.push(name);
                self.find(&path, root, &inner);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests"
            {
                if path != root && name != "mod" {
                    inner.push(name);
                }
                self.files.insert(inner, path);
            }
        }
    }

    /// Collects the modules that `tokens` name. `file` is the module of the file, `here` the one that
    /// the tokens stand in.
    fn paths(
        &self,
        file: &Module,
        here: &Module,
        tokens: TokenStream,
        used: &mut BTreeSet<Module>,
    ) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    let inline = at >= 2
                        && word(&tokens[at - 2]).as_deref() == Some("mod")
                        && group.delimiter() == Delimiter::Brace;
                    let mut inner = here.clone();
                    inner.extend(word(&tokens[at - 1.min(at)]).filter(|_| inline));
                    if !(inline && inner.last().is_some_and(|name| name == "tests")) {
                        self.paths(file, &inner, group.stream(), used);
                    }
                }
                TokenTree::Ident(ident) if !follows_colons(&tokens, at) => {
                    let start = match ident.to_string().as_str() {
                        "crate" => Some(Module::new()),
                        "self" => Some(here.clone()),
                        "super" => Some(here[..here.len().saturating_sub(1)].to_vec()),
                        name => {
                            let child = [file.as_slice(), &[name.to_owned()]].concat();
                            let names_path = is_colons(&tokens, at + 1);
                            (names_path && self.files.contains_key(&child)).then_some(child)
                        }
                    };
                    if let Some(start) = start.filter(|_| is_colons(&tokens, at + 1)) {
                        self.follow(start, &tokens[at + 1..], used);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Follows `::a::b` or `::{a, b::c}` behind a path that leads to `module`.
    fn follow(&self, mut module: Module, mut rest: &[TokenTree], used: &mut BTreeSet<Module>) {
        while is_colons(rest, 0) {
            match rest.get(2) {
                Some(TokenTree::Ident(ident)) if ident == "super" => {
                    module.pop();
                }
                Some(TokenTree::Ident(ident)) => module.push(ident.to_string()),
                Some(TokenTree::Group(group)) => {
                    let list: Vec<TokenTree> = group.stream().into_iter().collect();
                    for item in list.split(is_comma) {
                        if let [TokenTree::Ident(first), more @ ..] = item {
                            let mut inner = module.clone();
                            if first != "self" {
                                inner.push(first.to_string());
                            }
                            self.follow(inner, more, used);
                        }
                    }
                    return;
                }
                _ => break,
            }
            rest = &rest[3..];
        }
        // The longest part of the path that is a file; what follows are its items.
        while !self.files.contains_key(&module) && module.pop().is_some() {}
        used.insert(module);
    }

    fn by_folder(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, used) in &self.edges {
            let to = used.iter().map(room).filter(|to| *to != room(from));
            folders.entry(room(from)).or_default().extend(to);
        }
        folders
    }
}

/// The folder or file below a crate's root that a module lies in.
fn room(module: &Module) -> String {
    module.first().cloned().unwrap_or_else(|| "lib".into())
}

fn word(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

fn follows_colons(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_colons(tokens, at - 2)
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')
}

/// Every pair that reaches each other, as text.
fn circles<K: Ord + Clone + std::fmt::Debug>(edges: &BTreeMap<K, BTreeSet<K>>) -> Vec<String> {
    let reach = |from: &K| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from.clone()];
        while let Some(node) = next.pop() {
            for to in edges.get(&node).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&K, BTreeSet<K>> = edges.keys().map(|node| (node, reach(node))).collect();
    let mut found = Vec::new();
    for (from, targets) in edges {
        for to in targets {
            if reached.get(to).is_some_and(|seen| seen.contains(from)) {
                found.push(format!("{from:?} -> {to:?}"));
            }
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask/ lies in the repository")
        .to_owned()
}

#[test]
fn no_circle_of_files_and_none_of_folders() {
    let mut found = Vec::new();
    for krate in CRATES {
        let imports = Imports::of_crate(&root().join(krate));
        assert!(
            imports.edges.values().any(|used| !used.is_empty()),
            "{krate}: nothing was read"
        );
        let files = circles(&imports.edges);
        let folders = circles(&imports.by_folder());
        found.extend(
            files
                .into_iter()
                .chain(folders)
                .map(|circle| format!("{krate}: {circle}")),
        );
    }
    assert!(
        found.is_empty(),
        "circles of imports:\n{}",
        found.join("\n")
    );
}

#[test]
fn the_rooms_of_the_extension_import_from_lower_layers_only() {
    let level = |room: &str| LAYERS.iter().position(|layer| layer.contains(&room));
    let mut wrong = Vec::new();
    for (from, used) in Imports::of_crate(&root().join("src/lib.rs")).by_folder() {
        let above = level(&from).unwrap_or_else(|| panic!("room {from} stands in no layer"));
        for to in used {
            let below = level(&to).unwrap_or_else(|| panic!("room {to} stands in no layer"));
            if below <= above {
                wrong.push(format!("{from} imports from {to}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "imports that do not point down:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_source_file_is_too_long_to_read() {
    const LONGEST: usize = 500;
    let mut long = Vec::new();
    for krate in CRATES {
        for path in Imports::of_crate(&root().join(krate)).files.into_values() {
            let lines = fs::read_to_string(&path)
                .expect("a source file")
                .lines()
                .count();
            if lines > LONGEST {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than {LONGEST} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn a_circle_is_found() {
    let edges = |pairs: &[(u8, u8)]| {
        let mut edges: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        pairs.iter().for_each(|(from, to)| {
            edges.entry(*from).or_default().insert(*to);
            edges.entry(*to).or_default();
        });
        edges
    };
    assert!(circles(&edges(&[(1, 2), (2, 3), (1, 3)])).is_empty());
    assert_eq!(
        circles(&edges(&[(1, 2), (2, 3), (3, 1), (3, 4)])),
        ["1 -> 2", "2 -> 3", "3 -> 1"]
    );
}

#[test]
fn every_way_to_name_a_module_is_understood() {
    let mut imports = Imports::default();
    for module in ["a", "a b", "c", "c d", "c d e"] {
        let module: Module = module.split(' ').map(str::to_owned).collect();
        imports.files.insert(module, PathBuf::new());
    }
    let used = |file: &str, code: &str| {
        let file: Module = file.split(' ').map(str::to_owned).collect();
        let mut used = BTreeSet::new();
        imports.paths(&file, &file, code.parse().expect("tokens"), &mut used);
        used.into_iter()
            .map(|module| module.join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        used("a", "use crate::c::{self, d::{e, Item}};"),
        ["c", "c d", "c d e"]
    );
    assert_eq!(
        used("a b", "fn f() { super::g(); crate::c::d::h!(); }"),
        ["a", "c d"]
    );
    assert_eq!(
        used("c", "fn f() { d::g(); other::d::g(); x.d(); }"),
        ["c d"]
    );
    assert_eq!(
        used(
            "a",
            "mod tests { use crate::c::f; } fn f(text: &str) { \"crate::c\" }"
        ),
        [""; 0]
    );
}
