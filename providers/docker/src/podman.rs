//! What Podman's engine says otherwise than Docker's, put into Docker's words: the rest of the crate knows of one engine.

use bollard::errors::Error;
use bollard::models::{Network, SystemVersionComponents};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::reference::{DEFAULT_HOST, Reference};
use crate::session::Session;

/// How Podman's part of the version is called.
const PODMAN: &str = "Podman";

/// What networks may not be called.
const MODES: [&str; 11] =
    ["none", "host", "bridge", "private", "slirp4netns", "pasta", "container", "pod", "ns", "default", "podman"];

/// The states of a container in Docker's words.
const STATES: [&str; 9] = ["", "created", "running", "paused", "restarting", "stopping", "exited", "removing", "dead"];
/// Podman's words for a process that has ended and is not cleared away yet, and for one that is made and not started.
const ENDED: &str = "stopped";
const MADE: &str = "initialized";

/// Whether an engine with these parts is Podman.
pub(crate) fn is_podman(components: &[SystemVersionComponents]) -> bool {
    components.iter().any(|component| component.name.starts_with(PODMAN))
}

/// What the engine is called.
pub(crate) const fn name(is_podman: bool) -> &'static str {
    if is_podman { PODMAN } else { "Docker" }
}

/// What tells this engine from others. Podman tells another id at every call: the machine and where it keeps things must do.
pub(crate) fn id(machine: Option<String>, folder: Option<String>) -> Option<String> {
    Some(format!("podman:{}:{}", machine?, folder.filter(|folder| !folder.is_empty())?))
}

/// An answer about containers. One that cannot be read is put into Docker's words, and read again: one word that Docker does not have
/// makes a whole list unreadable.
pub(crate) fn understood<T: DeserializeOwned>(reply: Result<T, Error>) -> Result<T, Error> {
    match reply {
        Err(Error::JsonDataError { message, contents, column }) => {
            in_dockers_words(&contents).ok_or(Error::JsonDataError { message, contents, column })
        }
        other => other,
    }
}

fn in_dockers_words<T: DeserializeOwned>(text: &str) -> Option<T> {
    let mut answer: Value = serde_json::from_str(text).ok()?;
    match &mut answer {
        Value::Array(containers) => containers.iter_mut().for_each(summary),
        container => inspection(container),
    }
    serde_json::from_value(answer).ok()
}

/// One container of a list.
fn summary(container: &mut Value) {
    if let Some(Value::String(state)) = container.get_mut("State") {
        *state = state_of(state, false).to_owned();
    }
}

/// One container that was looked at. One that is started again by the engine as soon as it has ended is at no time over.
fn inspection(container: &mut Value) {
    let text = |path: &str| container.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let policy = text("/HostConfig/RestartPolicy/Name");
    let failed = container.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or_default() != 0;
    let again = matches!(policy, "always" | "unless-stopped") || (policy == "on-failure" && failed);
    if let Some(Value::String(state)) = container.pointer_mut("/State/Status") {
        *state = state_of(state, again).to_owned();
    }
}

/// A state in Docker's words; of one that Docker does not have at all nothing is told.
fn state_of(state: &str, again: bool) -> &'static str {
    match state {
        ENDED | MADE if again => "restarting",
        ENDED => "exited",
        MADE => "created",
        state => STATES.into_iter().find(|known| *known == state).unwrap_or_default(),
    }
}

/// By what a network is removed. Podman keeps networks that containers use only where they are named, and takes them away under these
/// containers where their id is told; no two networks have one name there, as they may elsewhere.
pub(crate) fn removed_by(session: &Session, network: &Network) -> String {
    let (name, id) = (network.name.clone(), network.id.clone());
    if session.is_podman { name } else { id }.unwrap_or_default()
}

/// Where Podman looks for the certificates of registries.
pub(crate) const CERTIFICATES: &str = "/etc/containers/certs.d";

/// What to do about a registry that speaks plain HTTP, those of this machine among them: Podman trusts none by itself.
pub(crate) fn insecure_hint(host: &str) -> String {
    format!(
        "{host} speaks plain HTTP: add `[[registry]]`, `location = \"{host}\"` and `insecure = true` to the engine's \
         /etc/containers/registries.conf"
    )
}

/// How an image is called there that was built or tagged without a registry, where Docker takes that of the hub.
pub(crate) fn built_here(reference: &Reference) -> Option<String> {
    let own = reference.repository.strip_prefix("library/").filter(|_| reference.host == DEFAULT_HOST)?;
    Some(format!("localhost/{own}:{}", reference.tag.as_ref()?))
}

/// Why a network cannot have a name there, which is a word of its own for how a container is on the network.
pub(crate) fn refuses_name(name: &str) -> bool {
    MODES.contains(&name)
}

/// Whether a network was not made because those of the machine changed while it looked for a free one: nothing was done.
pub(crate) fn is_passing(message: &str) -> bool {
    message.contains("no such network interface")
}

/// Whether a network was not made because another one, or the machine, has its subnet.
pub(crate) fn is_subnet_taken(message: &str) -> bool {
    message.contains("is already used on the host or by another config")
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};
    use serde_json::json;

    use super::*;

    fn read<T: DeserializeOwned>(answer: &Value) -> Result<T, Error> {
        let contents = answer.to_string();
        understood(serde_json::from_str(&contents).map_err(|error| Error::JsonDataError {
            message: error.to_string(),
            contents,
            column: 0,
        }))
    }

    fn status(state: &str, policy: &str, code: i64) -> String {
        let answer = json!({
            "Id": "abc", "State": {"Status": state, "ExitCode": code},
            "HostConfig": {"RestartPolicy": {"Name": policy}},
        });
        let container: ContainerInspectResponse = read(&answer).unwrap();
        container.state.and_then(|state| state.status).unwrap_or(ContainerStateStatusEnum::EMPTY).to_string()
    }

    #[test]
    fn podman_is_told_by_its_machine_and_folder() {
        let id = |name: Option<&str>, folder: &str| id(name.map(str::to_owned), Some(folder.to_owned()));
        assert_eq!(id(Some("vm"), "/var/lib/containers/storage").unwrap(), "podman:vm:/var/lib/containers/storage");
        assert_eq!((id(None, "/x"), id(Some("vm"), "")), (None, None));
    }

    #[test]
    fn one_strange_state_does_not_make_a_list_unreadable() {
        let answer =
            json!([{"Id": "a", "State": "running"}, {"Id": "b", "State": "stopped"}, {"Id": "c", "State": "odd"}]);
        let containers: Vec<ContainerSummary> = read(&answer).unwrap();
        let states: Vec<String> =
            containers.iter().map(|one| one.state.map(|state| state.to_string()).unwrap_or_default()).collect();
        assert_eq!(states, ["running", "exited", ""]);
    }

    #[test]
    fn what_the_engine_starts_again_is_not_over() {
        assert_eq!(status("stopped", "", 2), "exited");
        assert_eq!(status("stopped", "always", 0), "restarting");
        assert_eq!(status("stopped", "on-failure", 0), "exited");
        assert_eq!(status("stopped", "on-failure", 1), "restarting");
        assert_eq!(status("stopping", "always", 0), "stopping");
        assert_eq!(status("initialized", "no", 0), "created");
    }

    #[test]
    fn only_a_look_at_interfaces_that_change_is_repeated() {
        assert!(is_passing("route ip+net: no such network interface"));
        assert!(!is_passing("subnet 10.1.0.0/24 is already used on the host or by another config"));
    }

    #[test]
    fn what_is_no_answer_about_containers_stays_unreadable() {
        assert!(read::<Vec<ContainerSummary>>(&json!({"State": "stopped"})).is_err());
        assert!(read::<ContainerInspectResponse>(&json!({"Id": 7})).is_err());
    }
}
