//! The allowed arrows between crates, what pure crates may not do, and the policy of dependencies: read from `cargo metadata`
//! and the sources, so that they stay true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Which crates of ours each crate may depend on (development dependencies apart).
const ALLOWED: &[(&str, &[&str])] = &[
    ("ksail-model", &[]),
    ("ksail-kinds", &["ksail-model"]),
    ("ksail-archives", &["ksail-kinds"]),
    ("ksail-registry-client", &[]),
    ("ksail-compiler", &["ksail-model", "ksail-kinds", "ksail-kubernetes-schema"]),
    ("ksail-records", &["ksail-model"]),
    ("ksail-plan", &["ksail-model", "ksail-records"]),
    ("ksail-provider", &["ksail-model"]),
    ("ksail-execute", &["ksail-model", "ksail-plan", "ksail-records", "ksail-provider"]),
    ("ksail-state-local", &["ksail-model", "ksail-records"]),
    ("ksail-state-remote", &["ksail-records"]),
    ("ksail-state-object", &["ksail-records", "ksail-state-remote"]),
    ("ksail-state-postgres", &["ksail-records", "ksail-state-remote"]),
    ("ksail-test-real", &[]),
    ("ksail-test-proxy", &[]),
    ("ksail-state-suite", &["ksail-model", "ksail-records"]),
    ("ksail-conformance", &["ksail-model", "ksail-kinds", "ksail-provider"]),
    (
        "ksail-provider-docker",
        &["ksail-model", "ksail-kinds", "ksail-archives", "ksail-provider", "ksail-registry-client"],
    ),
    ("ksail-provider-embedded", &["ksail-model", "ksail-kinds", "ksail-provider"]),
    ("ksail-provider-kubeconfig", &["ksail-model", "ksail-kinds", "ksail-provider"]),
    ("ksail-provider-kubernetes", &["ksail-model", "ksail-kinds", "ksail-provider", "ksail-expressions"]),
    ("ksail-expressions", &[]),
    ("ksail-embedded", &["ksail-embedded-kubernetes", "ksail-registry-client"]),
    ("ksail-kubernetes-schema", &[]),
    ("ksail-embedded-kubernetes", &["ksail-kubernetes-schema", "ksail-expressions"]),
    ("ksail-secrets", &["ksail-model"]),
    ("ksail-views", &["ksail-model", "ksail-plan", "ksail-execute", "ksail-records"]),
];

/// Crates that stand on everything, or are for development only.
const TOP: &[&str] = &["ksail", "ksail-cli", "ksail-tests", "xtask", "ksail-engine-bench"];

/// Crates that plan: no tokio, no files, no network, no clock, no environment, no randomness.
const PURE: &[&str] =
    &["ksail-model", "ksail-kinds", "ksail-compiler", "ksail-plan", "ksail-records", "ksail-kubernetes-schema"];

/// Crates that a pure crate may not reach, however deep.
const IMPURE_CRATES: &[&str] =
    &["tokio", "reqwest", "hyper", "bollard", "mio", "socket2", "rand", "fastrand", "getrandom", "uuid"];

/// What the sources of a pure crate may not name.
const IMPURE_WORDS: &[&str] = &[
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "println!",
    "eprintln!",
];

/// Crates that nobody may reach: other TLS stacks, and crates that are not kept.
const BANNED: &[&str] =
    &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys", "serde_yaml", "serde_yml", "atty"];

/// Licences that the product may be built from.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().expect("cargo metadata answers")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

/// What each package depends on, without development dependencies.
fn resolved(metadata: &Metadata) -> BTreeMap<PackageId, BTreeSet<PackageId>> {
    let resolve = metadata.resolve.as_ref().expect("metadata with dependencies");
    resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
            (node.id.clone(), normal.map(|dependency| dependency.pkg.clone()).collect())
        })
        .collect()
}

fn reach(from: &PackageId, arrows: &BTreeMap<PackageId, BTreeSet<PackageId>>) -> BTreeSet<PackageId> {
    let mut found = BTreeSet::new();
    let mut todo = vec![from.clone()];
    while let Some(next) = todo.pop() {
        for dependency in arrows.get(&next).into_iter().flatten() {
            if found.insert(dependency.clone()) {
                todo.push(dependency.clone());
            }
        }
    }
    found
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    for package in metadata.workspace_packages() {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name.as_str()) else {
            let name = package.name.as_str();
            assert!(TOP.contains(&name), "{name} has no line in the table of allowed arrows");
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if ours.contains(name) && dependency.kind != DependencyKind::Development {
                assert!(allowed.contains(&name), "{} may not depend on {name}", package.name);
            }
        }
    }
}

#[test]
fn pure_crates_reach_nothing_impure() {
    let metadata = metadata();
    let arrows = resolved(&metadata);
    for name in PURE {
        let package =
            metadata.packages.iter().find(|package| package.name.as_str() == *name).expect("the crate is there");
        for id in reach(&package.id, &arrows) {
            let reached = metadata[&id].name.as_str();
            assert!(!IMPURE_CRATES.contains(&reached), "{name} reaches {reached}");
        }
        let sources = package.manifest_path.parent().expect("a folder").join("src");
        for file in rust_files(sources.as_std_path()) {
            let text = std::fs::read_to_string(&file).expect("a source file can be read");
            // Tests beside the code may do as they like.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in IMPURE_WORDS {
                assert!(!code.contains(word), "{} names {word}", file.display());
            }
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn dependencies_keep_to_the_policy() {
    let metadata = metadata();
    let arrows = resolved(&metadata);
    let mut shipped = BTreeSet::new();
    for package in metadata.workspace_packages() {
        shipped.extend(reach(&package.id, &arrows));
        for dependency in &package.dependencies {
            let any = dependency.path.is_none() && dependency.req.to_string() == "*";
            assert!(!any, "{} takes any version of {}", package.name, dependency.name);
        }
    }
    for id in shipped {
        let package = &metadata[&id];
        let name = package.name.as_str();
        assert!(!BANNED.contains(&name), "{name} may not be used");
        let Some(source) = &package.source else { continue };
        assert!(source.is_crates_io(), "{name} comes from {source}");
        let licence = package.license.as_deref().unwrap_or("none");
        assert!(is_allowed(licence), "{name} has the licence {licence}");
    }
}

/// Whether an SPDX expression can be met with the allowed licences.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    plain.split(" AND ").all(|group| group.split(" OR ").any(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn versions_are_declared_once() {
    for package in metadata().workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest can be read");
        let tables = manifest.split("\n[").filter(|table| {
            ["dependencies]", "dev-dependencies]", "build-dependencies]"].iter().any(|head| table.starts_with(head))
        });
        for line in tables.flat_map(str::lines).filter(|line| line.contains('=') && !line.trim_start().starts_with('#'))
        {
            assert!(line.contains("workspace = true"), "{}: `{line}` is not declared in the workspace", package.name);
        }
    }
}

#[test]
fn files_of_the_product_keep_a_readable_length() {
    /// Beyond this a file has a seam at which it wants to part.
    const LONGEST: usize = 800;
    let root = root();
    for package in metadata().workspace_packages() {
        let sources = package.manifest_path.parent().expect("a folder").join("src");
        if !sources.as_std_path().is_dir() {
            continue;
        }
        for file in rust_files(sources.as_std_path()) {
            let lines = std::fs::read_to_string(&file).expect("a source file can be read").lines().count();
            let shown = file.strip_prefix(&root).unwrap_or(&file).display();
            assert!(lines <= LONGEST, "{shown} has {lines} lines");
        }
    }
}
