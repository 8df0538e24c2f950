//! Commands that secrets come from: run by no shell, within bounds, and with nothing shown of what they write.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ksail_secrets::{CommandOutput, SECRET_FILE_BYTES_MAX};
use secrecy::zeroize::Zeroizing;

/// How long a command may run.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks at one that has written all and not ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Runs a program with its arguments in a folder, and answers what it wrote to its standard output. A program that is named with a
/// `/` is found from the folder. It has no input; what it writes to its standard error is lost.
///
/// # Errors
/// A fragment that holds nothing of what it wrote.
pub(crate) fn run(words: &[String], folder: &Path, limit: Duration) -> CommandOutput {
    let (program, arguments) = words.split_first().ok_or("it names no program")?;
    let found = if program.contains('/') {
        std::path::absolute(folder.join(program)).map_err(|error| error.to_string())?
    } else {
        PathBuf::from(program)
    };
    let deadline = Instant::now() + limit;
    let mut child = Command::new(found)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let answer = output(&mut child, deadline, limit);
    if answer.is_err() {
        // It may have ended by itself, and then there is nothing to end.
        let _ = child.kill();
    }
    let _ = child.wait();
    answer
}

fn output(child: &mut Child, deadline: Instant, limit: Duration) -> CommandOutput {
    let too_long = || format!("it has not ended within {} s", limit.as_secs());
    let pipe = child.stdout.take().ok_or("it has no output")?;
    let (send, receive) = mpsc::channel();
    // What it started may hold its output open for ever, so the reading is not waited for.
    std::thread::spawn(move || {
        // Room for all of it from the start: a buffer that grows leaves copies behind that nobody zeroes.
        let most = SECRET_FILE_BYTES_MAX + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or(0)));
        let read = pipe.take(most).read_to_end(&mut bytes);
        let _ = send.send(read.map(|_| bytes));
    });
    let bytes = receive
        .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        .map_err(|_| too_long())?
        .map_err(|error| format!("its output cannot be read: {error}"))?;
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err("it writes too much".to_owned());
    }
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(bytes),
            Some(status) => return Err(format!("it failed ({status})")),
            None if Instant::now() >= deadline => return Err(too_long()),
            None => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_it_writes_is_the_answer_and_nothing_of_it_is_in_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let run = |list: &[&str], limit| run(&words(list), folder.path(), Duration::from_millis(limit));
        assert_eq!(run(&["printf", "%s", "$HOME a b"], 10_000).unwrap().as_slice(), b"$HOME a b", "no shell reads it");
        let here = run(&["pwd", "-P"], 10_000).unwrap();
        assert_eq!(String::from_utf8_lossy(&here).trim(), folder.path().canonicalize().unwrap().display().to_string());
        let failed = run(&["sh", "-c", "echo hush; echo hush >&2; exit 3"], 10_000).unwrap_err();
        assert!(failed.contains("exit status: 3") && !failed.contains("hush"), "{failed}");
        assert!(run(&["not-a-program-of-anyone"], 10_000).unwrap_err().starts_with("it cannot be run"));
        assert!(run(&["sh", "-c", "echo hush; sleep 60"], 300).unwrap_err().starts_with("it has not ended within"));
        assert!(run(&["sh", "-c", "sleep 60 & exec sleep 60"], 300).is_err());
        assert_eq!(run(&["head", "-c", "2000000", "/dev/zero"], 10_000).unwrap_err(), "it writes too much");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_with_a_path_is_found_from_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        // No script of our own: one that was just written may be open in what another test starts, and cannot be run then.
        std::os::unix::fs::symlink("/bin/echo", folder.path().join("give")).unwrap();
        assert_eq!(run(&words(&["./give", "given"]), folder.path(), TIME_LIMIT).unwrap().as_slice(), b"given\n");
    }
}
