//! Why a node did not come up: the lines that tell it, of the kubelet, of containerd and of the static pods, in the order in which one
//! starts the other.

use ksail_provider::CallError;

use crate::call::Call;
use crate::exec::run;

/// How many lines of one part are told.
const SHOWN: usize = 3;
/// How long one line may be, in characters; the rest says where in a program it was.
const LONGEST_LINE: usize = 400;
/// What parts begin with in what the machine says.
const HEAD: &str = "#part ";
/// Gathers what the node says: of units since kubeadm began, of each static pod what its last container said, and which of them ended.
const GATHER: &str = r##"
since=$(stat -c @%Y /var/lib/ksail/bootstrap/operation 2>/dev/null || echo '-10min')
for unit in kubelet containerd; do
  echo "#part $unit"
  journalctl --no-pager --quiet --unit "$unit" --output cat --since "$since" --lines 400 2>/dev/null
  state=$(systemctl is-active "$unit" 2>/dev/null)
  if [ "$state" != active ]; then echo "#state $state"; fi
done
for pod in /var/log/pods/kube-system_*; do
  [ -d "$pod" ] || continue
  for container in "$pod"/*/; do
    last=$(ls -t "$container" 2>/dev/null | head -n 1)
    [ -n "$last" ] || continue
    echo "#part $(basename "$container")"
    tail -n 80 "$container$last"
  done
done
true
"##;
/// What the kubelet says of every node that is not up yet, whatever the reason is.
const ALWAYS: [&str; 9] = [
    "node \"",
    "nodes \"",
    "Unable to register node",
    "connection refused",
    "failed to ensure lease",
    "Failed to ensure lease",
    "Unable to write event",
    "cni plugin not initialized",
    "failed to load Kubelet config file",
];
/// Words by which a line tells of a failure, where its severity does not.
const TELLING: [&str; 8] =
    ["level=error", "level=fatal", "panic:", "fatal", "failed to run", "unknown flag", "Error: ", "no space left"];

/// The lines that tell why the node of a machine is not up; empty where nothing does.
pub(crate) async fn why_not(call: &Call, machine: &str, doing: &str) -> Result<String, CallError> {
    let output = run(call, machine, doing, &["sh", "-c", GATHER], "").await?;
    Ok(told(&output.stdout))
}

/// The telling lines of each part, under its name.
fn told(said: &str) -> String {
    let mut all = Vec::new();
    for part in said.split(HEAD).skip(1) {
        let (name, text) = part.split_once('\n').unwrap_or((part, ""));
        let state = text.lines().find_map(|line| line.strip_prefix("#state "));
        let lines = telling(text.lines().filter(|line| !line.starts_with("#state ")));
        if lines.is_empty() && state.is_none() {
            continue;
        }
        let state = state.map(|state| format!(" ({state})")).unwrap_or_default();
        all.push(format!("{name}{state}:"));
        all.extend(lines.into_iter().map(|line| format!("  {line}")));
    }
    all.join("\n")
}

/// The last lines of a log that tell of a failure, each once: what is started again and again says the same again and again, and at its
/// beginning what only then was so.
fn telling<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in lines.map(without_frame).filter(|line| is_telling(line)) {
        let message = message(line);
        let like: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
        found.retain(|(other, _)| *other != like);
        found.push((like, message));
    }
    let first = found.len().saturating_sub(SHOWN);
    found.split_off(first).into_iter().map(|(_, line)| line).collect()
}

/// A line of a container without what the runtime writes before it: `2026-01-01T00:00:00.0Z stderr F `.
fn without_frame(line: &str) -> &str {
    let mut parts = line.splitn(4, ' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(_), Some("stdout" | "stderr"), Some("F" | "P"), Some(rest)) => rest,
        _ => line,
    }
}

/// The severity of a line as the programs of Kubernetes write it: `E1128 19:00:00.1 …`.
fn severity(line: &str) -> Option<char> {
    let first = line.chars().next().filter(|first| matches!(first, 'I' | 'W' | 'E' | 'F'))?;
    let date = line.get(1..5)?;
    (date.chars().all(|c| c.is_ascii_digit()) && line.get(5..6) == Some(" ")).then_some(first)
}

fn is_telling(line: &str) -> bool {
    let is_bad = match severity(line) {
        Some(severity) => matches!(severity, 'E' | 'F'),
        // etcd writes objects.
        None => {
            line.contains("\"level\":\"fatal\"")
                || line.contains("\"level\":\"error\"")
                || line.contains("\"level\":\"panic\"")
                || TELLING.iter().any(|word| line.contains(word))
        }
    };
    is_bad && !ALWAYS.iter().any(|always| line.contains(always))
}

/// A line without time, pid and place in the program, and not longer than one can read.
fn message(line: &str) -> String {
    let text = match severity(line) {
        Some(_) => line.split_once("] ").map_or(line, |(_, message)| message),
        None => line,
    };
    let text = text.trim();
    match text.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or(text)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_part_what_tells_is_told() {
        let said = "#part kubelet\n\
            E1128 19:00:00.100000     210 run.go:72] \"command failed\" err=\"failed to load Kubelet config file, path: /var/lib/kubelet/config.yaml\"\n\
            I1128 19:00:01.000000     310 server.go:100] \"Starting\"\n\
            E1128 19:00:02.100000     310 run.go:72] \"command failed\" err=\"failed to run Kubelet: unknown cgroup driver: none\"\n\
            E1128 19:00:03.100000     410 run.go:72] \"command failed\" err=\"failed to run Kubelet: unknown cgroup driver: none\"\n\
            #state activating\n\
            #part containerd\n\
            time=\"2026-11-28T19:00:00Z\" level=warning msg=\"old\"\n\
            #part kube-apiserver\n\
            2026-11-28T19:00:00.1Z stderr F Error: unknown flag: --nonsense\n\
            #part etcd\n\
            2026-11-28T19:00:00.1Z stderr F {\"level\":\"info\",\"msg\":\"started\"}\n";
        assert_eq!(
            told(said),
            "kubelet (activating):\n  \"command failed\" err=\"failed to run Kubelet: unknown cgroup driver: none\"\n\
             kube-apiserver:\n  Error: unknown flag: --nonsense"
        );
    }

    #[test]
    fn what_every_node_says_at_first_is_not_told() {
        let said = "#part kubelet\n\
            E1128 19:00:00.1     210 kubelet_node_status.go:1] \"Unable to register node with API server\" err=\"x\"\n\
            E1128 19:00:00.1     210 x.go:1] \"Failed\" err=\"dial tcp 10.0.0.2:6443: connect: connection refused\"\n\
            #part containerd\n";
        assert_eq!(told(said), "");
    }

    #[test]
    fn the_last_lines_count_and_long_ones_are_cut() {
        let lines = ["E1128 1:0 1 a.go:1] one", "panic: two", "level=error three", "Error: four"];
        assert_eq!(telling(lines.into_iter()), ["panic: two", "level=error three", "Error: four"]);
        let long = format!("panic: {}", "é".repeat(1000));
        assert_eq!(message(&long).chars().count(), LONGEST_LINE + 1);
    }
}
