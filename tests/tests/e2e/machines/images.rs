//! Images for what runs in a cluster: loaded by hand, from the archive that the file names, and from a bundle where nothing can be
//! pulled.

use std::process::Command;

use rustix::process::Signal;

use super::pinned::Source;
use super::{LOADED, World};
use crate::support::apart::Apart;
use crate::support::engine::Engine;
use crate::support::project::Project;
use crate::support::wait_until;

/// Another image that the test bed's engine has, of other content.
const OTHER: &str = "ksail-testbed/haproxy:2";

impl World {
    /// An image of a test alone.
    fn own_image(&self, tag: &str) -> String {
        format!("ksail-test/{}:{tag}", self.cluster)
    }

    fn docker(arguments: &[&str]) {
        let host = std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine");
        let run = Command::new("docker").args(arguments).env("DOCKER_HOST", &host).output().expect("docker runs");
        assert!(run.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    }

    /// An archive of the project that holds an image of the engine under a name that the engine does not know afterwards.
    fn archive(&self, content: &str, name: &str) {
        let file = self.project.path().join("images.tar").display().to_string();
        Self::docker(&["tag", content, name]);
        Self::docker(&["save", "--output", &file, name]);
        Self::docker(&["image", "rm", name]);
    }

    /// The pods run this image, and it is pulled from nowhere.
    fn pods_run(&self, image: &str) {
        let web = super::WEB.replace("registry.k8s.io/pause:3.10.2", image).replace("IfNotPresent", "Never");
        self.project.write("k8s/web.yaml", &web);
    }

    fn file(&self, change: impl Fn(String) -> String) {
        let file = self.project.read("ksail.yaml");
        let (head, rest) = file.split_once("  mirrors:").expect("mirrors");
        let (_, tail) = rest.split_once("  nodes:").expect("nodes");
        self.project.write("ksail.yaml", &change(format!("{head}  nodes:{tail}")));
    }

    /// The images of a node, by name.
    #[track_caller]
    fn images_of(&self, node: &str) -> Vec<String> {
        let (code, said) = self.engine.exec(node, &["ctr", "--namespace=k8s.io", "images", "list", "--quiet"]);
        assert_eq!(code, 0, "{node}: {said}");
        said.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn have(&self, image: &str) {
        for node in self.nodes(1) {
            let images = self.images_of(&node);
            assert!(images.contains(&format!("docker.io/{image}")), "{node}: {images:?}");
        }
    }
}

#[test]
fn images_of_an_archive_are_in_every_node_before_workloads_start() {
    let Some(world) = World::example() else { return };
    let (image, cluster) = (world.own_image("1"), world.cluster.clone());
    world.workers(1);
    world.archive(LOADED, &image);
    world.pods_run(&image);
    world.file(|file| file.replace("    localRegistry:\n", "    importImages: images.tar\n    localRegistry:\n"));
    let plan = world.project.run(&["plan", "-q"]).code(0);
    let plan = plan.says(&format!("{cluster}/image-import/worker-0 will be created"));
    plan.says_not(&format!("image/docker.io%2Fksail-test%2F{cluster}"));
    // Killed while images go in, it goes on.
    let run = world.project.start(&["apply", "--auto-approve"]);
    wait_until("images go in", || run.has_said("image-import/control-plane-0: creating"));
    run.signal(Signal::KILL);
    run.end();
    world.project.apply();
    world.project.is_settled();
    world.have(&image);
    let running = world.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={.items[*].status.phase}"]);
    assert_eq!(running, "Running Running");
    // The engine has no use for it, and nodes have none for their own image.
    assert!(world.engine.call("GET", &format!("/images/{image}/json"), &serde_json::Value::Null).0 == 404);
    assert!(world.images_of(&world.control_plane()).iter().all(|name| !name.contains("kindest/node")));

    // What a node has lost it gets again, and a node made anew gets all of it.
    let worker = world.nodes(1)[1].clone();
    let gone = format!("docker.io/{image}");
    world.engine.exec(&worker, &["ctr", "--namespace=k8s.io", "images", "remove", &gone]);
    world.project.run(&["plan", "--detailed-exitcode"]).code(2).says("image-import/worker-0 was changed outside");
    world.project.apply();
    world.have(&image);
    world.project.run(&["apply", "--auto-approve", "--replace", "volume/worker-0"]).code(0);
    world.have(&image);
    world.rests(&world.nodes(1), &|| true);

    // An archive of the same content is no change, and another one is.
    world.archive(LOADED, &image);
    world.project.is_settled();
    world.archive(OTHER, &image);
    world.project.run(&["plan", "-q"]).code(0).says("0 to add, 2 to change, 0 to destroy");
    let plan = world.project.path().join("plan.json").display().to_string();
    world.project.run(&["plan", "--out", &plan]).code(0);
    world.archive(LOADED, &image);
    world.project.run(&["apply", &plan]).code(3).says("is not the planned one");
    world.project.apply();
    world.project.is_settled();

    loaded_by_hand(&world);

    // Without the field the nodes keep what they have.
    world.file_without_import();
    world.project.run(&["plan", "-q"]).code(0).says("2 to destroy");
    world.project.apply();
    world.project.is_settled();
    world.have(&image);
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}

impl World {
    fn file_without_import(&self) {
        let file = self.project.read("ksail.yaml");
        self.project.write("ksail.yaml", &file.replace("    importImages: images.tar\n", ""));
    }
}

fn loaded_by_hand(world: &World) {
    let image = world.own_image("2");
    let load = |arguments: &[&str]| {
        let mut all = vec!["image", "load"];
        all.extend(arguments);
        world.project.run(&all)
    };
    load(&[&image]).code(1).says("there is no such image").says("docker pull");
    World::docker(&["tag", LOADED, &image]);
    let worker = world.nodes(1)[1].clone();
    load(&[&image, "--node", &worker]).code(0).says(&format!("{worker}: docker.io/{image} loaded"));
    let rest = load(&[&image, "--format", "json"]).code(0).json();
    let of = |node: &str| {
        let all = rest.as_array().expect("a list");
        all.iter().find(|one| one["node"] == node).unwrap_or_else(|| panic!("{node} in {rest}"))
    };
    let full = serde_json::json!([format!("docker.io/{image}")]);
    assert_eq!((&of(&worker)["loaded"], &of(&worker)["present"]), (&serde_json::json!([]), &full));
    assert_eq!(of(&world.control_plane())["loaded"], full);
    World::docker(&["image", "rm", &image]);
    world.have(&image);
    // An archive, whatever is in it: what is there already does not go in again.
    world.archive(LOADED, &image);
    load(&["images.tar"]).code(0).says(&format!("{worker}: docker.io/{image} was there")).says_not("loaded");
    world.archive(OTHER, &image);
    load(&["images.tar"]).code(0).says(&format!("{worker}: docker.io/{image} loaded"));
    pinned_by_hand(world, &load);
    load(&["gone.tar"]).code(1).says("there is no archive");
    load(&["ksail.yaml"]).code(1).says("it cannot be read");
    load(&[&image, "--name", "nobody"]).code(1).says("it has no nodes there").says("ksail cluster list");
    world.archive(LOADED, &world.own_image("1"));
    // A node that stands still is none that could take them.
    world.project.run(&["cluster", "stop"]).code(0);
    load(&["images.tar"]).code(1).says("does not run").says("ksail cluster start");
    world.project.run(&["cluster", "start"]).code(0);
    world.rests(&world.nodes(1), &|| true);
}

/// What a digest names comes from its registry, and is in the node under that name.
fn pinned_by_hand(world: &World, load: &dyn Fn(&[&str]) -> crate::support::project::Run) {
    let source = Source::start(world);
    let (worker, image) = (world.nodes(1)[1].clone(), source.image());
    load(&[&source.tagged(), "--node", &worker]).code(0).says(&format!("{worker}: {image} loaded"));
    assert!(world.images_of(&worker).contains(&image));
    load(&[&image, "--node", &worker]).code(0).says("was there").says_not("loaded");
    let unknown = image.replace("@sha256:", "@sha256:0").replace("web@", "web:9@");
    let unknown = &unknown[..unknown.len() - 1];
    load(&[unknown]).code(1).says("does not know team/web/manifests/sha256:0").says("by a tag alone");
    drop(source);
    let nobody = image.replace("@sha256:", "@sha256:1");
    load(&[&nobody[..nobody.len() - 1]]).code(1).says("cannot be reached").says("comes from its registry");
}

#[test]
fn a_cluster_is_made_from_a_bundle_alone_where_nothing_can_be_pulled() {
    let Some(mut world) = World::example() else { return };
    let image = world.own_image("1");
    world.workers(1);
    world.pods_run(&image);
    world.file(|file| file);
    // What a pod runs may be named by a digest.
    let source = Source::start(&world);
    world.project.write("k8s/pinned.yaml", &source.pod());
    World::docker(&["tag", LOADED, &image]);
    let bundle = "bundle.tar";
    let made = world.project.command(&["bundle", "create"]).output().expect("a bundle");
    World::docker(&["image", "rm", &image]);
    let pinned = source.image();
    drop(source);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{made:?}");
    let node = format!("docker.io/kindest/node:{}", world.version);
    let mut held = vec![node, format!("docker.io/{image}"), LOADED.to_owned(), pinned.clone()];
    held.sort();
    assert_eq!(said.lines().collect::<Vec<_>>(), held);
    // One that lacks something is refused before anything is made.
    world.pods_run(&world.own_image("other"));
    world.project.run(&["plan", "--bundle", bundle]).code(1).says("does not hold").says("ksail bundle create");
    world.pods_run(&image);

    let Some(apart) = Apart::start() else { return };
    let shared = std::mem::replace(&mut world.engine, Engine::at(&apart.socket()));
    world.project.set_env("DOCKER_HOST", &format!("unix://{}", apart.socket().display()));
    let run = |arguments: &[&str], code: i32| {
        let run = apart.run(&world.project, arguments);
        assert_eq!(run.status.code(), Some(code), "{arguments:?}: {run:?}");
    };
    assert_eq!(apart.images(), [""; 0], "it has none");
    run(&["apply", "--auto-approve", "--bundle", bundle], 0);
    // Whoever plans next need not have it.
    std::fs::remove_file(world.project.path().join(bundle)).expect("the bundle goes");
    run(&["plan", "--detailed-exitcode"], 0);
    world.have(&image);
    for node in world.nodes(1) {
        assert!(world.images_of(&node).contains(&pinned), "{node}");
    }
    let running = world.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={.items[*].status.phase}"]);
    assert_eq!(running, "Running Running Running");
    let short = |name: &String| name.trim_start_matches("docker.io/").trim_start_matches("library/").to_owned();
    let is_of_engine = |name: &&String| !name.contains(&image) && **name != pinned;
    let mut of_engine: Vec<String> = held.iter().filter(is_of_engine).map(short).collect();
    of_engine.sort();
    assert_eq!(apart.images(), of_engine, "what only pods need is not on the engine");
    run(&["destroy", "--auto-approve"], 0);
    world.is_gone();
    assert_eq!(apart.images(), [""; 0]);
    world.engine = shared;
}

#[test]
fn where_no_node_runs_containers_no_image_is_brought_and_it_is_said_why() {
    let project = Project::quickstart();
    project.run(&["image", "load", "a:1"]).code(1).says("provider Embedded has no nodes").says("runs no containers");
    project.run(&["bundle", "create"]).code(1).says("provider Embedded has none").says("built in");
    project.run(&["plan", "--bundle", "bundle.tar"]).code(1).says("provider Embedded has none");
    project.write("plan.json", "{}");
    let given_late = project.run(&["apply", "plan.json", "--bundle", "bundle.tar"]).code(1);
    given_late.says("says already what is applied");
    assert!(!project.path().join("bundle.tar").exists());
}
