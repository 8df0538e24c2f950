//! What files compile to.

use ksail_compiler::{ArchiveFacts, load, validate};
use ksail_model::{Address, Value};

use crate::world::{QUICKSTART, World, built, sources};

#[test]
fn quickstart_on_the_embedded_engine() {
    let compiled = built(&sources(QUICKSTART), &World::default()).unwrap();
    assert_eq!(compiled.stack, "dev");
    assert_eq!(compiled.warnings, []);
    insta::assert_json_snapshot!("quickstart_embedded", compiled.graph);
}

#[test]
fn quickstart_on_docker() {
    let text = QUICKSTART.replace("Embedded", "Docker");
    let compiled = built(&sources(&text), &World::default()).unwrap();
    insta::assert_json_snapshot!("quickstart_docker", compiled.graph);
}
