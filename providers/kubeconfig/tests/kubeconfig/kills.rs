//! Writers that are killed at random moments: the file is whole after each, and the next writer goes on.

use std::process::{Command, Stdio};
use std::time::Duration;

use ksail_provider::Deleted;

use crate::support::{OTHERS, World, named};

/// How many writers are killed.
const KILLS: u32 = 50;
/// Within which time after its first write one is killed.
const WITHIN: Duration = Duration::from_millis(8);
/// Names the folder in which a child writes.
const FOLDER: &str = "KSAIL_TEST_KUBECONFIG_WRITER";

/// Not a test of its own: what the killed processes run.
#[tokio::test]
async fn writer() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let world = World::at(folder.into());
    std::fs::write(world.path().join("begun"), "").unwrap();
    loop {
        world.create().await.unwrap();
        world.update(&["server"]).await.unwrap();
        world.delete().await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_leaves_a_whole_file_and_the_next_writer_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::at(folder.path().to_owned());
    world.rotate("token");
    world.write(OTHERS);
    let mut random = fastrand::Rng::with_seed(11);
    let mut there = 0;
    for kill in 0..KILLS {
        let begun = world.path().join("begun");
        let _ = std::fs::remove_file(&begun);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::writer", "--nocapture"])
            .env(FOLDER, world.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !begun.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended by itself");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(WITHIN.mul_f64(random.f64()));
        child.kill().unwrap();
        child.wait().unwrap();
        let said = world.said();
        let ours = named(&said, "ksail-dev");
        assert!(ours == [0, 0, 0] || ours == [1, 1, 1], "kill {kill} left {ours:?} in\n{}", world.text());
        assert_eq!((named(&said, "work"), named(&said, "me")), ([1, 0, 1], [0, 1, 0]), "{}", world.text());
        there += u32::from(ours == [1, 1, 1]);
        // A lock that the killed one left holds nobody up.
        world.create().await.unwrap();
        assert_eq!(world.delete().await.unwrap(), Deleted::Gone);
        assert_eq!(world.text(), OTHERS, "after kill {kill}");
        assert_eq!(std::fs::read_dir(world.file().parent().unwrap()).unwrap().count(), 1, "after kill {kill}");
    }
    assert!(there > 0 && there < KILLS, "the kills came at one moment only: {there} of {KILLS}");
}
