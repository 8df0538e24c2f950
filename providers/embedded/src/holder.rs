//! Who holds a port of this machine, where the system tells: so that "in use" names an engine of another environment, of another
//! state, or the program to end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What listening sockets are called in the kernel's table.
const LISTENING: &str = "0A";

/// Who holds a port.
#[derive(Debug)]
pub(crate) struct Holder {
    /// The process in words.
    pub(crate) name: String,
    /// The folder, if it is an embedded engine.
    engine: Option<PathBuf>,
}

impl Holder {
    /// Whether it is the embedded engine of a folder.
    pub(crate) fn runs(&self, folder: &Path) -> bool {
        let Some(engine) = &self.engine else { return false };
        engine == folder
            || matches!((engine.canonicalize(), folder.canonicalize()), (Ok(one), Ok(other)) if one == other)
    }
}

/// Who listens on these ports of this machine, as far as the system tells and lets us look. All processes are looked at, once.
pub(crate) fn of(ports: &[u16]) -> BTreeMap<u16, Holder> {
    if ports.is_empty() {
        return BTreeMap::new();
    }
    let mut wanted: BTreeMap<String, u16> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listeners(&table, ports))
        .collect();
    let mut found = BTreeMap::new();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let pid = process.file_name().to_string_lossy().into_owned();
        if wanted.is_empty() {
            break;
        }
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        for target in descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok()) {
            if let Some(port) = target.to_str().and_then(|target| wanted.remove(target)) {
                let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                found.insert(port, holder(&line, &pid));
            }
        }
    }
    found
}

/// The sockets in the kernel's table that listen on one of the ports, as descriptors name them.
fn listeners(table: &str, ports: &[u16]) -> Vec<(String, u16)> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(3) == Some(&LISTENING))
        .filter_map(|fields| {
            let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
            ports.contains(&port).then(|| fields.get(9).map(|inode| (format!("socket:[{inode}]"), port)))?
        })
        .collect()
}

/// A process in words, by its command line. Of that only the program is told: the rest may hold what is not for others.
fn holder(line: &[u8], pid: &str) -> Holder {
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let engine = words.get(1).filter(|word| *word == "__engine").and_then(|_| {
        let at = words.iter().position(|word| word == "--folder")?;
        words.get(at + 1)
    });
    let name = match engine {
        Some(folder) => format!("the embedded engine in {folder} (pid {pid})"),
        None => {
            let program = words.first().and_then(|word| word.rsplit('/').next()).filter(|program| !program.is_empty());
            format!("{} (pid {pid})", program.unwrap_or("another process"))
        }
    };
    Holder { name, engine: engine.map(PathBuf::from) }
}

#[cfg(test)]
mod tests {
    use super::{holder, listeners, of};

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = of(&[port]);
        assert!(said[&port].name.ends_with(&format!("(pid {})", std::process::id())), "{said:?}");
        drop(listener);
        assert!(of(&[port]).is_empty());
    }

    #[test]
    fn only_what_listens_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:13BA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n   \
                     1: 0100007F:13BA 0100007F:CAFE 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n";
        assert_eq!(listeners(table, &[5049, 5050]), [("socket:[111]".to_owned(), 5050)]);
        assert!(listeners(table, &[5051]).is_empty());
    }

    #[test]
    fn an_engine_is_told_by_its_folder_and_others_by_their_program() {
        let check = |line: &[u8], wanted: &str| assert_eq!(holder(line, "7").name, wanted);
        check(
            b"/usr/bin/ksail\0__engine\0--folder\0/p/.ksail/dev.prod/engine\0",
            "the embedded engine in /p/.ksail/dev.prod/engine (pid 7)",
        );
        check(b"/usr/sbin/nginx\0-c\0secret\0", "nginx (pid 7)");
        check(b"", "another process (pid 7)");
        let engine = holder(b"/usr/bin/ksail\0__engine\0--folder\0/p/engine\0", "7");
        assert!(engine.runs(std::path::Path::new("/p/engine")) && !engine.runs(std::path::Path::new("/q/engine")));
    }
}
