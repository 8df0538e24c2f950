//! A process that is killed while it seals: the vault has everything that was reported as sealed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ksail_secrets::{Identity, Vault};

const FOLDER: &str = "KSAIL_SECRETS_TEST_FOLDER";

const KILLS: usize = 20;

fn vault(folder: &Path) -> Vault {
    let identity = Identity::load_or_create(&folder.join("age.key")).unwrap();
    Vault::open_or_create(&folder.join("vault.age"), &identity).unwrap()
}

/// Not a test of its own: what the other process runs.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut vault = vault(Path::new(&folder));
    for number in vault.names().count() + 1.. {
        vault.seal(&format!("entry-{number}"), "text".repeat(number).into()).unwrap();
        let mut out = std::io::stdout().lock();
        write!(out, "\nsealed {number}\n").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_a_killed_process_has_sealed_is_there() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: String| line.strip_prefix("sealed ").and_then(|text| text.parse::<usize>().ok());
        let first = lines.by_ref().find_map(number).expect("the child seals something");
        std::thread::sleep(Duration::from_micros((round * round * 137 % 20_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let sealed = lines.filter_map(number).last().unwrap_or(first);
        let vault = vault(folder.path());
        assert!(vault.names().count() >= sealed, "round {round}: {sealed} were sealed");
        assert!(std::fs::read_dir(folder.path()).unwrap().count() <= 3, "kills leave more and more files");
        assert!((1..=sealed).all(|number| vault.get(&format!("entry-{number}")).is_some()));
    }
}
