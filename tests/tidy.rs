//! The house rules that can be checked by reading: fast, and without a compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where something may fail that cannot: file, what stands on the line, and why.
const MAY_PANIC: &[(&str, &str, &str)] = &[
    ("src/domain/cbor.rs", r#"expect("encoding into memory")"#, "memory takes every byte"),
    ("src/domain/seat_map.rs", r#"expect("the chunk is one of the map")"#, "it is looked up in the line before"),
    ("src/domain/seat_map.rs", r#"expect("writing to memory does not fail")"#, "memory takes every byte"),
    ("src/engine/tokens.rs", r#"expect("a key of 32 bytes")"#, "HMAC takes keys of any length"),
    ("src/store/codec.rs", r#"expect("encoding into memory")"#, "memory takes every byte"),
    ("src/server/fuzz.rs", "expect(", "tests may fail"),
    ("src/server/mod.rs", "expect(Expectations(", "the header, not an assertion"),
    ("src/testing/", "expect(", "tests may fail"),
    ("src/testing/", "unwrap()", "tests may fail"),
];

/// Files of more than 1,000 lines without their tests, and why that is better than two.
const MAY_BE_LONG: &[(&str, &str)] =
    &[("src/domain/concert_option/mod.rs", "the whole saga in one place, which is what it is driven by an option for")];

/// What those must not know who neither wait, nor look at a clock, nor throw dice.
const PURE_MUST_NOT_KNOW: &[&str] = &[
    "tokio",
    "actix",
    "async ",
    ".await",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
    "rand::",
    "getrandom",
    "RandomState",
];

/// What else the pure core must not know (I8).
const CORE_MUST_NOT_KNOW: &[&str] = &[
    "crate::actors",
    "crate::store",
    "crate::engine",
    "crate::clock",
    "crate::server",
    "crate::config",
    "crate::limits",
];

/// What else the protocol of a cluster must not know, beside what is above it.
const PROTOCOL_MUST_NOT_KNOW: &[&str] =
    &["nats::", "crate::store::disk", "crate::store::codec", "LocalLog", "LocalCopy"];

/// What connects that protocol to the world, and what is asked of it.
const CONNECTION: &[&str] = &["src/cluster/nats/", "src/cluster/link.rs"];

/// The modules, from the bottom up: each may name those before it, and those of its own line. `testing` stands outside.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["config", "clock", "payment"],
    &["store", "aggregates"],
    &["cluster"],
    &["limits"],
    &["api", "error", "watch"],
    &["replica"],
    &["actors"],
    &["live", "relay"],
    &["engine"],
    &["server"],
    &["loadgen"],
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` whose names end in `ext`, with their paths from the root.
fn files(dir: &str, ext: &str) -> Vec<(String, String)> {
    let (mut found, mut dirs) = (Vec::new(), vec![root().join(dir)]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == ext) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there is nothing in {dir}");
    found
}

/// Source files that are not tests, each without the tests at its end.
fn sources() -> Vec<(String, String)> {
    let is_test = |name: &str| name.ends_with("tests.rs") || name.contains("/tests/");
    let code = |source: String| match source.find("#[cfg(test)]\nmod tests {") {
        Some(end) => source[..end].to_owned(),
        None => source,
    };
    let sources = files("src", "rs").into_iter().filter(|(name, _)| !is_test(name));
    sources.map(|(name, source)| (name, code(source))).collect()
}

/// Each line of code with its number: no comments, and nothing behind `//`.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("").trim()))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn nothing_panics_for_want_of_an_error() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (name, source) in sources() {
        for (number, line) in code_lines(&source) {
            for call in [".unwrap()", ".expect(", "todo!(", "unimplemented!("] {
                if !line.contains(call) {
                    continue;
                }
                let allowed =
                    MAY_PANIC.iter().position(|(file, text, _)| name.starts_with(file) && line.contains(text));
                match allowed {
                    Some(index) => drop(used.insert(index)),
                    None => wrong.push(format!("{name}:{number}: {line}")),
                }
            }
        }
    }
    let unused = MAY_PANIC.iter().enumerate().filter(|(index, (file, ..))| {
        // That tests may is said once for all that is there or not.
        !used.contains(index) && !file.ends_with('/')
    });
    wrong.extend(unused.map(|(_, (file, text, _))| format!("{file}: {text} is allowed, and not there any more")));
    assert_none(&wrong);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut wrong = Vec::new();
    for (name, source) in sources() {
        let lines = source.lines().count();
        let reason = MAY_BE_LONG.iter().find(|(file, _)| *file == name);
        match (lines > 1_000, reason) {
            (true, None) => wrong.push(format!("{name} has {lines} lines")),
            (_, Some(_)) if lines < 900 => wrong.push(format!("{name} is allowed to be long, and is not")),
            _ => {}
        }
    }
    assert_none(&wrong);
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for (dir, must_not_know) in [("src/domain/", CORE_MUST_NOT_KNOW), ("src/cluster/", PROTOCOL_MUST_NOT_KNOW)] {
        let is_pure = |name: &str| name.starts_with(dir) && !CONNECTION.iter().any(|it| name.starts_with(it));
        for (name, source) in sources().iter().filter(|(name, _)| is_pure(name)) {
            for (number, line) in code_lines(source) {
                for word in PURE_MUST_NOT_KNOW.iter().chain(must_not_know).filter(|word| line.contains(**word)) {
                    wrong.push(format!("{name}:{number}: {word}: {line}"));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_module_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for (name, source) in files("src", "rs").into_iter().chain(files("tests", "rs")).chain(files("benches", "rs")) {
        let first = source.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            wrong.push(format!("{name} begins with {first:?}"));
        }
    }
    assert_none(&wrong);
}

#[test]
fn nothing_is_left_lying_about() {
    let mut wrong = Vec::new();
    for (name, source) in sources() {
        let prints: &[&str] = if name.starts_with("src/bin/") { &[] } else { &["println!", "print!("] };
        for (number, line) in source.lines().enumerate() {
            let number = number + 1;
            for word in ["TODO", "FIXME", "XXX", "dbg!"].iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{name}:{number}: {word}"));
            }
        }
        for (number, line) in code_lines(&source) {
            for word in prints.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{name}:{number}: {word}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_code_is_unsafe() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(library.contains("#![forbid(unsafe_code)]"));
}

/// The targets of the links in a Markdown text, but for those into the net.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                links.push(target);
            }
        }
    }
    links
}

/// The anchor of a heading, as it is shown by GitHub.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn what_the_documents_point_to_is_there() {
    let mut documents: Vec<(PathBuf, String)> =
        files("docs", "md").into_iter().map(|(name, text)| (root().join(name), text)).collect();
    let others = ["README.md", "README.ko.md", "CHANGELOG.md", "SECURITY.md", "packaging/README.md"];
    let clients = ["clients/python/README.md", "clients/seats/README.md", "clients/typescript/README.md"];
    for name in others.into_iter().chain(clients) {
        documents.push((root().join(name), fs::read_to_string(root().join(name)).unwrap()));
    }
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (path, text) in &documents {
        for link in links(text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            checked += 1;
            if !target.exists() {
                wrong.push(format!("{}: {link}", path.display()));
                continue;
            }
            if heading.is_empty() || target.extension().is_none_or(|it| it != "md") {
                continue;
            }
            let target = fs::read_to_string(target).unwrap();
            if !target.lines().any(|line| line.starts_with('#') && anchor(line) == heading) {
                wrong.push(format!("{}: {link}: no such heading", path.display()));
            }
        }
    }
    // Files that the code's own documentation sends its readers to.
    for (name, source) in files("src", "rs") {
        for (at, _) in source.match_indices("`docs/") {
            let target = source[at + 1..].split('`').next().unwrap_or_default();
            checked += 1;
            if !root().join(target).exists() {
                wrong.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(checked > 0, "no links were found at all");
    assert_none(&wrong);
}

#[test]
fn every_guide_is_a_chapter_of_the_book() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let chapters = links(&summary);
    let (mut wrong, mut named) = (Vec::new(), BTreeSet::new());
    for (name, _) in files("docs", "md") {
        let name = name.trim_start_matches("docs/");
        if name != "SUMMARY.md" && !chapters.contains(&name) {
            wrong.push(format!("docs/SUMMARY.md: {name} is missing"));
        }
    }
    wrong.extend(chapters.iter().filter(|it| !named.insert(**it)).map(|it| format!("docs/SUMMARY.md: {it} twice")));
    assert_none(&wrong);
}

#[test]
fn every_example_is_named_where_a_host_looks() {
    let mut wrong = Vec::new();
    for (name, _) in files("examples", "rs") {
        let example = Path::new(&name).file_stem().unwrap().to_str().unwrap();
        for file in ["docs/EMBEDDING.md", "src/lib.rs"] {
            if !fs::read_to_string(root().join(file)).unwrap().contains(&format!("`{example}`")) {
                wrong.push(format!("{file}: {example}"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn what_the_engine_can_do_is_listed_in_one_place() {
    let engine = fs::read_to_string(root().join("src/engine/mod.rs")).unwrap();
    let documentation = &engine[..engine.find("pub struct Engine").unwrap()];
    let (mut wrong, mut listed) = (Vec::new(), 0);
    for (name, source) in sources().iter().filter(|(name, _)| name.starts_with("src/engine/")) {
        let mut inside = false;
        for line in source.lines() {
            inside = line == "impl Engine {" || inside && line != "}";
            let method = line.strip_prefix("    pub async fn ").or_else(|| line.strip_prefix("    pub fn "));
            let Some(method) = method.filter(|_| inside) else { continue };
            let method = method.split(['(', '<']).next().unwrap();
            listed += 1;
            if !documentation.contains(&format!("`{method}`")) {
                wrong.push(format!("{name}: {method} is missing in the documentation of Engine"));
            }
        }
    }
    assert!(listed > 40, "only {listed} methods were found");
    assert_none(&wrong);
}

#[test]
fn modules_know_those_below_them_only() {
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let (mut wrong, mut arrows) = (Vec::new(), 0);
    for (name, source) in sources() {
        let module = name.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
        if matches!(module, "lib" | "bin" | "testing") {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{name}: {module} has no layer"));
            continue;
        };
        for (number, line) in code_lines(&source) {
            for (at, path) in line.match_indices("crate::") {
                let other =
                    line[at + path.len()..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                arrows += usize::from(other != module);
                if layer(other).is_some_and(|other| other > own) {
                    wrong.push(format!("{name}:{number}: {module} names {other}"));
                }
            }
        }
    }
    assert!(arrows > 100, "only {arrows} names of other modules were found");
    assert_none(&wrong);
}
