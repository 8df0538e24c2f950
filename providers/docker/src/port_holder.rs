//! Which process listens on a port of this machine, as far as this user may know.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How a socket that listens is told in the tables of the kernel.
const LISTENS: &str = "0A";

/// Who listens on which of the ports: `nginx (pid 812)`. Of others' processes a user may not know; they are left out.
pub(crate) fn holders(ports: &[u16]) -> BTreeMap<u16, String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: BTreeMap<String, u16> = tables
        .iter()
        .flat_map(|table| listening(table))
        .filter(|(port, _)| ports.contains(port))
        .map(|(port, inode)| (format!("socket:[{inode}]"), port))
        .collect();
    let mut found = BTreeMap::new();
    if inodes.is_empty() {
        return found;
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let path = process.path();
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        for port in sockets(&path).filter_map(|socket| inodes.get(&socket)) {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            found.entry(*port).or_insert_with(|| format!("{} (pid {pid})", name.trim()));
        }
        if found.len() == ports.len() {
            break;
        }
    }
    found
}

/// The ports that are listened on, with the inodes of their sockets, in such a table.
fn listening(table: &str) -> Vec<(u16, String)> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, state) = (fields.next()?, fields.nth(1)?);
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        let inode = fields.nth(5)?.to_owned();
        (state == LISTENS).then_some((port, inode))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// What the open files of a process lead to.
fn sockets(process: &Path) -> impl Iterator<Item = String> {
    let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()?.into_os_string().into_string().ok())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn what_listens_is_read_from_the_tables_of_the_kernel() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n   \
                     1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        assert_eq!(listening(table), [(8080, "4711".to_owned())]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn our_own_process_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = holders(&[port]);
        assert!(found[&port].ends_with(&format!("(pid {})", std::process::id())), "{found:?}");
    }
}
