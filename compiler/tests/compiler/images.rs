//! Images of an archive and of a bundle: what the engine and the nodes of a cluster get, and what a bundle must hold.

use ksail_compiler::{ArchiveFacts, Compiled, ImageFrom, compile, declare_import, load, needed_images};
use ksail_model::{Address, Declaration, Path, Strength, Value};

use crate::world::{World, built, product, sources, with_spec};

const HEAD: &str =
    "  cluster:\n    provider: Docker\n    distribution: Vanilla\n    workers: 1\n    localRegistry: {}\n";
const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: default}\nspec:\n  selector: {matchLabels: {app: web}}\n  \
                   template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: shop/web}]}\n";
const MANIFESTS: &str = "  manifests:\n    - path: web.yaml\n";
const NODE: &str = "docker.io/kindest/node:v1.36.4";
const REGISTRY: &str = "docker.io/library/registry:2.8.3";
const SHOP: &str = "docker.io/shop/web:latest";
const EXTRA: &str = "r.example/extra:1";

fn world(file: &str, images: &[&str]) -> World {
    let images = images.iter().map(|name| ((*name).to_owned(), format!("sha256:{}", name.len()))).collect();
    World {
        archives: [(file.to_owned(), ArchiveFacts { images })].into(),
        manifests: [("web.yaml".to_owned(), WEB.to_owned())].into(),
        ..World::default()
    }
}

fn with_bundle(images: &[&str]) -> World {
    World { bundle: Some("bundle.tar".to_owned()), ..world("bundle.tar", images) }
}

fn compiled(spec: &str, world: &World) -> Compiled {
    built(&sources(&with_spec(spec)), world).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn get<'a>(compiled: &'a Compiled, address: &str) -> &'a Declaration {
    let known = &compiled.graph.declarations;
    known.get(&Address::parse(address).unwrap()).unwrap_or_else(|| panic!("{address} in {:?}", known.keys()))
}

fn imported(compiled: &Compiled, node: &str) -> Vec<String> {
    let spec = &get(compiled, &format!("dev/image-import/{node}")).spec;
    spec.field("images").and_then(Value::as_map).unwrap().keys().map(ToString::to_string).collect()
}

fn source<'a>(compiled: &'a Compiled, image: &str) -> Option<&'a str> {
    let image = get(compiled, &format!("dev/image/{}", image.replace('/', "%2F")));
    image.spec.field("source")?.field("from")?.as_str()
}

fn needs<'a>(compiled: &'a Compiled, address: &str) -> Vec<&'a str> {
    let edges = get(compiled, address).edges.iter();
    let imports = edges.filter(|edge| edge.to.kind() == "image-import" && edge.strength == Strength::Soft);
    imports.map(|edge| edge.to.without_cluster()).collect()
}

#[test]
fn nodes_get_the_images_of_the_archive_before_pods_can_come() {
    let world = world("images.tar", &[NODE, REGISTRY, SHOP, EXTRA]);
    let compiled = compiled(&format!("{HEAD}    importImages: images.tar\n{MANIFESTS}"), &world);
    // Not the node image, of which the engine makes the nodes.
    for node in ["control-plane-0", "worker-0"] {
        assert_eq!(imported(&compiled, node), [REGISTRY, SHOP, EXTRA]);
        let host = get(&compiled, &format!("dev/image-import/{node}")).host.clone();
        assert_eq!(host, Some(Address::new("dev", "machine", &[node])));
    }
    // The engine gets what it needs itself.
    assert_eq!((source(&compiled, NODE), source(&compiled, REGISTRY)), (Some("archive"), Some("archive")));
    let images = compiled.graph.declarations.keys().filter(|address| address.kind() == "image").count();
    assert_eq!(images, 2);
    assert_eq!(needs(&compiled, "dev/bootstrap/worker-0"), ["image-import/worker-0"]);
    assert_eq!(needs(&compiled, "dev/bootstrap/control-plane-0"), [""; 0]);
    let web = needs(&compiled, "dev/object/apps.Deployment/default/web");
    assert_eq!(web, ["image-import/control-plane-0", "image-import/worker-0"]);
}

#[test]
fn with_a_bundle_nothing_is_pulled_and_what_it_lacks_is_named() {
    let spec = format!("{HEAD}    importImages: images.tar\n{MANIFESTS}");
    let whole = with_bundle(&[NODE, REGISTRY, SHOP, EXTRA]);
    let compiled = compiled(&spec, &whole);
    assert_eq!((source(&compiled, NODE), source(&compiled, REGISTRY)), (Some("archive"), Some("archive")));
    assert_eq!(imported(&compiled, "worker-0"), [SHOP, EXTRA], "the registry's image is only the engine's");
    let node = get(&compiled, &format!("dev/image/{}", NODE.replace('/', "%2F")));
    assert_eq!(node.lifecycle.ignore, [Path::key("source")], "without the bundle it is no change");
    let errors = built(&sources(&with_spec(&spec)), &with_bundle(&[NODE])).map(drop).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let lacks = |name: &str| errors.iter().any(|error| error.contains("does not hold") && error.contains(name));
    assert!(lacks(REGISTRY) && lacks(SHOP) && !lacks(NODE), "{errors:?}");
}

#[test]
fn registries_alone_come_from_a_bundle_too() {
    let spec = "  cluster:\n    provider: Docker\n    distribution: None\n    localRegistry: {}\n";
    let all = compiled(spec, &with_bundle(&[REGISTRY]));
    assert_eq!(source(&all, REGISTRY), Some("archive"));
    let errors = built(&sources(&with_spec(spec)), &with_bundle(&[EXTRA])).map(drop).unwrap_err();
    assert!(errors[0].to_string().contains("does not hold"), "{errors:?}");
    let pulled = compiled(spec, &world("none", &[]));
    assert_eq!(source(&pulled, REGISTRY), Some("pull"));
}

#[test]
fn what_came_with_a_bundle_can_be_declared_again_as_it_was() {
    let spec = format!("{HEAD}{MANIFESTS}");
    let first = compiled(&spec, &with_bundle(&[NODE, REGISTRY, SHOP]));
    let mut later = compiled(&spec, &world("none", &[]));
    for node in ["control-plane-0", "worker-0"] {
        declare_import(&mut later.graph, get(&first, &format!("dev/image-import/{node}")).clone());
    }
    for (address, declaration) in &first.graph.declarations {
        let again = &later.graph.declarations[address];
        assert_eq!(again.edges, declaration.edges, "{address}");
        if address.kind() != "image" {
            assert_eq!(again.spec, declaration.spec, "{address}");
        }
    }
}

#[test]
fn a_bundle_holds_what_the_engine_and_the_pods_need() {
    let spec = format!(
        "{HEAD}    importImages: images.tar\n{MANIFESTS}  images:\n    - {{from: docker.io, to: r.example/hub}}\n"
    );
    let world = world("images.tar", &[EXTRA]);
    let loaded = load(&sources(&with_spec(&spec)), &world);
    let compiled = compile(&loaded, &world, &product()).unwrap();
    let needed: Vec<(String, ImageFrom)> =
        needed_images(&loaded, &compiled.graph).into_iter().map(|image| (image.reference, image.from)).collect();
    let hub = |name: &str| name.replace("docker.io", "r.example/hub");
    let engine = |name: &str| ImageFrom::Engine(hub(name));
    let mut wanted = vec![
        // Pods ask for it by the name in the manifest; it is pulled from where the file says.
        (SHOP.to_owned(), engine(SHOP)),
        (EXTRA.to_owned(), ImageFrom::Archive("images.tar".to_owned())),
        (hub(NODE), engine(NODE)),
        (hub(REGISTRY), engine(REGISTRY)),
    ];
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(needed, wanted);
}
