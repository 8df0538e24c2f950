//! What files compile to.

use ksail_compiler::{ArchiveFacts, Compiled, load};
use ksail_model::{Address, Choice, Declaration, Diagnostic, Ownership, Value};

use crate::world::{QUICKSTART, World, built, product, read, render, sources, with_spec};

fn compiled(text: &str, world: &World) -> Compiled {
    let sources = sources(text);
    built(&sources, world).unwrap_or_else(|errors| panic!("{}", render(&load(&sources, world), &errors)))
}

fn refused(text: &str, world: &World) -> String {
    let errors = built(&sources(text), world).unwrap_err();
    assert!(errors.iter().any(Diagnostic::is_error));
    render(&load(&sources(text), world), &errors)
}

fn get<'a>(compiled: &'a Compiled, address: &str) -> &'a Declaration {
    let known = &compiled.graph.declarations;
    known.get(&Address::parse(address).unwrap()).unwrap_or_else(|| panic!("{address} in {:?}", known.keys()))
}

#[test]
fn quickstart_on_the_embedded_engine() {
    let compiled = compiled(QUICKSTART, &World::default());
    assert_eq!(compiled.stack, "dev");
    assert_eq!(compiled.warnings, []);
    insta::assert_json_snapshot!("quickstart_embedded", compiled.graph);
}

#[test]
fn quickstart_on_docker() {
    let compiled = compiled(&QUICKSTART.replace("Embedded", "Docker"), &World::default());
    insta::assert_json_snapshot!("quickstart_docker", compiled.graph);
}

#[test]
fn every_leaf_of_every_spec_has_an_origin() {
    for provider in ["Embedded", "Docker"] {
        let compiled = compiled(&QUICKSTART.replace("Embedded", provider), &World::default());
        for declaration in compiled.graph.declarations.values() {
            declaration.spec.walk(&mut |path, _| {
                assert!(declaration.origins.of(path).is_some(), "{} {path}", declaration.address);
            });
        }
    }
}

#[test]
fn compiling_twice_gives_the_same_and_lines_do_not_count() {
    let first = compiled(QUICKSTART, &World::default());
    let second = compiled(&format!("# moved by a line\n{QUICKSTART}"), &World::default());
    for (address, declaration) in &first.graph.declarations {
        assert_eq!(declaration.digest(), second.graph.declarations[address].digest(), "{address}");
    }
    assert_eq!(first, compiled(QUICKSTART, &World::default()));
}

#[test]
fn registries_by_where_they_are() {
    let with = |registry: &str| {
        compiled(&with_spec(&format!("  cluster:\n    distribution: None\n{registry}")), &World::default())
    };
    let has = |compiled: &Compiled| compiled.graph.outputs.contains_key("registry");
    assert!(!has(&with("")));
    // One elsewhere is only named, without what stands before `@`.
    for remote in ["ghcr.io/owner/repo", "https://ghcr.io/owner/repo/", "'${U}:${TOKEN}@ghcr.io/owner/repo'"] {
        let text =
            with_spec(&format!("  cluster:\n    distribution: None\n    localRegistry: {{registry: {remote}}}\n"));
        let world = World::with_env(&[("U", "me"), ("TOKEN", "hunter2canary")]);
        let compiled = compiled(&text, &world);
        assert_eq!(compiled.graph.outputs.get("registry"), Some(&Value::from("ghcr.io/owner/repo")), "{remote}");
        assert!(!compiled.graph.declarations.keys().any(|address| address.kind() == "registry"));
    }
    for local in ["{}", "{registry: ''}", "{registry: localhost}", "{registry: 127.0.0.1}"] {
        let compiled = with(&format!("    localRegistry: {local}\n"));
        let registry = get(&compiled, "dev/registry/local");
        assert!(matches!(&registry.choices[..], [Choice::Port { preferred, .. }] if preferred[0] == 5050), "{local}");
        assert_eq!(registry.spec.field("port"), None);
    }
    let fixed = with("    localRegistry: {registry: 'localhost:6000'}\n");
    assert_eq!(get(&fixed, "dev/registry/local").spec.field("port"), Some(&Value::from(6000_u16)));
    assert!(get(&fixed, "dev/registry/local").choices.is_empty());
}

#[test]
fn names_of_mirrors_are_names_that_engines_take() {
    let text = with_spec(
        "  cluster: {distribution: None}\n  mirrors:\n    - host: r.example:5000\n    - host: r.example-5000\n    - host: Quay.io\n      port: 7000\n",
    );
    let compiled = compiled(&text, &World::default());
    let names: Vec<_> = compiled
        .graph
        .declarations
        .values()
        .filter(|one| one.address.kind() == "mirror")
        .map(|one| one.identity.name.as_str())
        .collect();
    assert_eq!(names[0], "dev-mirror-quay.io");
    assert!(names[1].starts_with("dev-mirror-r.example-5000") && names[1] != names[2], "{names:?}");
    assert_eq!(get(&compiled, "dev/mirror/quay.io").spec.field("upstream"), Some(&Value::from("https://quay.io")));
    assert_eq!(get(&compiled, "dev/mirror/quay.io").spec.field("port"), Some(&Value::from(7000_u16)));
    let volumes: std::collections::BTreeSet<_> = compiled
        .graph
        .declarations
        .values()
        .filter(|one| one.address.kind() == "volume")
        .map(|one| &one.identity.name)
        .collect();
    assert_eq!(volumes.len(), 3);
}

#[test]
fn rewrites_reach_the_catalogue_and_say_so() {
    let text = QUICKSTART.replace("Embedded", "Docker")
        + "  images:\n    - {from: docker.io, to: r.example/hub}\n    - {from: docker.io/library, to: r.example/lib}\n";
    let compiled = compiled(&text, &World::default());
    let reference = "r.example/lib/registry:2.8.3";
    let image = get(&compiled, &format!("dev/image/{}", reference.replace('/', "%2F")));
    assert_eq!(image.identity.name, reference);
    let mirror = get(&compiled, "dev/mirror/ghcr.io");
    assert_eq!(mirror.spec.field("image"), Some(&Value::from(reference)));
    assert_eq!(mirror.origins.of(&ksail_model::Path::key("image")).unwrap().to_string(), "ksail.yaml:16:37");
}

#[test]
fn an_archive_brings_its_images() {
    let mut world = World::default();
    let names = ["docker.io/library/alpine:3", "docker.io/library/registry:2.8.3"];
    let images = names.map(|name| (name.to_owned(), "sha256:00".to_owned())).into();
    world.archives.insert("images.tar".to_owned(), ArchiveFacts { images });
    let text = QUICKSTART.replace("Embedded", "Docker\n    importImages: images.tar");
    let compiled = compiled(&text, &world);
    for name in ["docker.io%2Flibrary%2Falpine:3", "docker.io%2Flibrary%2Fregistry:2.8.3"] {
        let image = get(&compiled, &format!("dev/image/{name}"));
        assert_eq!(image.ownership, Ownership::Shared);
        assert_eq!(
            image.spec.field("source").and_then(|source| source.field("from")),
            Some(&Value::from("archive")),
            "{name}"
        );
    }
    let images = compiled.graph.declarations.keys().filter(|address| address.kind() == "image").count();
    assert_eq!(images, 2, "the registry's image is loaded, not pulled");

    let errors = refused(&text.replace("images.tar", "gone.tar"), &world)
        + "\n"
        + &refused(&text.replace("images.tar", "torn.tar"), &world);
    insta::assert_snapshot!("archive_errors", errors);
}

#[test]
fn rules_that_contradict_each_other() {
    let text = QUICKSTART.to_owned()
        + "  lifecycle:
    - {match: registry, protect: false}
    - {match: network, protect: true}
    - {match: dev/registry, protect: true}
    - {match: registry/local, protect: false}
    - {match: volume, createBeforeDestroy: false}
";
    insta::assert_snapshot!("contradicting_rules", refused(&text, &World::default()));
}

#[test]
fn rules_moves_removals_and_imports() {
    let text = QUICKSTART.to_owned()
        + "  lifecycle:
    - {match: volume, protect: true}
    - {match: dev/volume/local-registry, ignore: [driver]}
    - {match: mirors}
    - {match: volume, ignore: [drivr]}
  moved:
    - {from: mirror/old.io, to: mirror/ghcr.io}
  removed:
    - {from: mirror/quay.io, destroy: false}
    - {from: image/docker.io/library/alpine:3}
  imports:
    - {to: network/main, id: my-network}
";
    let compiled = compiled(&text, &World::default());
    assert_eq!(compiled.warnings.len(), 2);
    insta::assert_snapshot!("unmatched_rule", render(&read(&text), &compiled.warnings));
    assert!(get(&compiled, "dev/volume/mirror-ghcr.io").lifecycle.is_protected());
    let lifecycle = &get(&compiled, "dev/volume/local-registry").lifecycle;
    assert!(lifecycle.is_protected() && lifecycle.ignore.contains(&ksail_model::Path::key("driver")));
    assert_eq!(compiled.graph.moved[0].from.as_str(), "dev/mirror/old.io");
    assert_eq!(compiled.graph.moved[0].to.as_str(), "dev/mirror/ghcr.io");
    assert!(!compiled.graph.removed[0].destroy && compiled.graph.removed[1].destroy);
    assert_eq!(compiled.graph.removed[1].from.as_str(), "dev/image/docker.io%2Flibrary%2Falpine:3");
    assert_eq!(compiled.graph.imports[0].id, "my-network");
}

#[test]
fn addresses_must_fit_what_is_declared() {
    let text = QUICKSTART.to_owned()
        + "  lifecycle:
    - {match: registry/local, createBeforeDestroy: true}
  moved:
    - {from: mirror/docker.io, to: mirror/ghrc.io}
  removed:
    - {from: volume/local-registry}
  imports:
    - {to: network/mian, id: x}
    - {to: dev/volume/none, id: y}
";
    insta::assert_snapshot!("addresses_must_fit", refused(&text, &World::default()));
    let stale = QUICKSTART.to_owned() + "  moved:\n    - {from: mirror/old.io, to: mirror/gone.io}\n";
    let warnings = compiled(&stale, &World::default()).warnings;
    assert!(matches!(&warnings[..], [warning] if !warning.is_error()), "{warnings:?}");
}

#[test]
fn required_versions_are_compared() {
    let with = |requirement: &str| QUICKSTART.to_owned() + &format!("  requiredVersion: \"{requirement}\"\n");
    compiled(&with(">=0.1, <0.3"), &World::default());
    assert_eq!(product().version, "0.1.0");
    insta::assert_snapshot!("required_version_unmet", refused(&with(">=0.2"), &World::default()));
}

#[test]
fn the_environment_is_part_of_the_stack() {
    let mut sources = sources(QUICKSTART);
    sources.environment = Some("prod".to_owned());
    let compiled = built(&sources, &World::default()).unwrap();
    assert_eq!((compiled.stack.as_str(), compiled.cluster.as_str()), ("dev.prod", "dev"));
    assert_eq!(compiled.environment.as_deref(), Some("prod"));
}

#[test]
fn a_name_has_a_default() {
    let text = QUICKSTART.replace("metadata:\n  name: dev\n", "");
    assert_eq!(compiled(&text, &World::default()).cluster, "local");
}

#[test]
fn long_names_stay_names_of_hosts() {
    let name = "a".repeat(80);
    let compiled = compiled(&QUICKSTART.replace("name: dev", &format!("name: {name}")), &World::default());
    let containers =
        compiled.graph.declarations.values().filter(|one| ["mirror", "registry"].contains(&one.address.kind()));
    let names: std::collections::BTreeSet<_> = containers.map(|one| one.identity.name.as_str()).collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
}

#[test]
fn an_environment_must_fit_a_name() {
    let mut sources = sources(QUICKSTART);
    sources.environment = Some("../prod".to_owned());
    let errors = built(&sources, &World::default()).unwrap_err();
    assert!(errors[0].to_string().contains("cannot be an environment"), "{errors:?}");
}
