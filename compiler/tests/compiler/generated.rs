//! Committed files that are made from the types.

use std::path::Path;

use ksail_compiler::{
    InitOptions,
    format::{MirrorEntry, Provider},
    init_files, json_schema, reference_markdown,
};

use crate::world::{World, built, judged, sources};

/// Compares a committed file with what is generated; with `UPDATE_GENERATED=1` writes it instead.
fn check(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == generated, "{path} is not what the types give; run with UPDATE_GENERATED=1 and commit it");
}

#[test]
fn the_schema_is_that_of_the_types() {
    check("schema/ksail.schema.json", &(serde_json::to_string_pretty(&json_schema()).unwrap() + "\n"));
}

#[test]
fn the_reference_page_is_that_of_the_types() {
    check("docs/file.md", &reference_markdown());
}

#[test]
fn a_new_project_validates_and_compiles() {
    for provider in [Provider::Embedded, Provider::Docker] {
        for (local_registry, mirrors) in [(true, vec!["docker.io", "r.example:5000"]), (false, vec![])] {
            let mirror = |host: &&str| MirrorEntry { host: (*host).to_owned(), ..MirrorEntry::default() };
            let mirrors = mirrors.iter().map(mirror).collect();
            let options = InitOptions { provider, local_registry, mirrors, ..InitOptions::default() };
            let files = init_files(&options);
            assert_eq!(files[0].0, "ksail.yaml");
            assert_eq!(judged(&files[0].1), "", "{}", files[0].1);
            let compiled = built(&sources(&files[0].1), &World::default()).unwrap();
            assert_eq!(compiled.graph.outputs.contains_key("registry"), local_registry);
        }
    }
}
