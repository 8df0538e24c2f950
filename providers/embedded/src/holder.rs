//! Who holds a port of this machine, where the system tells: so that "in use" names an engine of another environment, of another
//! state, or the program to end.

use std::path::Path;

/// What listening sockets are called in the kernel's table.
const LISTENING: &str = "0A";

/// Who listens on a loopback port, if the system tells and lets us look.
pub(crate) fn of(port: u16) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|process| process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .find(|process| holds(&process.path(), &sockets))
        .map(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            name(&line, &process.file_name().to_string_lossy())
        })
}

/// The sockets in the kernel's table that listen on a port, as descriptors name them.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&wanted)))
        .filter(|fields| fields.get(3) == Some(&LISTENING))
        .filter_map(|fields| fields.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect()
}

fn holds(process: &Path, sockets: &[String]) -> bool {
    let Ok(descriptors) = std::fs::read_dir(process.join("fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
        .any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

/// A process in words, by its command line. Of that only the program is told: the rest may hold what is not for others.
fn name(line: &[u8], pid: &str) -> String {
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let engine = words.get(1).filter(|word| *word == "__engine").and_then(|_| {
        let at = words.iter().position(|word| word == "--folder")?;
        words.get(at + 1)
    });
    match engine {
        Some(folder) => format!("the embedded engine in {folder} (pid {pid})"),
        None => {
            let program = words.first().and_then(|word| word.rsplit('/').next()).filter(|program| !program.is_empty());
            format!("{} (pid {pid})", program.unwrap_or("another process"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{listeners, name, of};

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = of(port).unwrap();
        assert!(said.ends_with(&format!("(pid {})", std::process::id())), "{said}");
        drop(listener);
        assert_eq!(of(port), None);
    }

    #[test]
    fn only_what_listens_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:13BA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n   \
                     1: 0100007F:13BA 0100007F:CAFE 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n";
        assert_eq!(listeners(table, 5050), ["socket:[111]"]);
        assert!(listeners(table, 5051).is_empty());
    }

    #[test]
    fn an_engine_is_told_by_its_folder_and_others_by_their_program() {
        let check = |line: &[u8], wanted: &str| assert_eq!(name(line, "7"), wanted);
        check(
            b"/usr/bin/ksail\0__engine\0--folder\0/p/.ksail/dev.prod/engine\0",
            "the embedded engine in /p/.ksail/dev.prod/engine (pid 7)",
        );
        check(b"/usr/sbin/nginx\0-c\0secret\0", "nginx (pid 7)");
        check(b"", "another process (pid 7)");
    }
}
