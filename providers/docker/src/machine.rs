//! Machines: containers that are nodes of a cluster, each on a volume that outlives it.

use std::time::Duration;

use bollard::query_parameters::{LogsOptions, RemoveContainerOptions, StopContainerOptions};
use futures::StreamExt as _;
use ksail_kinds::{MachineSpec, Spec as _, VolumeSpec};
use ksail_model::{Mark, Observation, Path, Readiness, Seen, Step, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, Target, UpdateRequest};
use tokio::time::Instant;

use crate::call::{Call, Failed};
use crate::certificates;
use crate::compare::same_where_fixed;
use crate::container::{find, inspect, is_port_conflict, list, until_removed};
use crate::control_plane::{cluster_of, kubectl};
use crate::drain;
use crate::exec::{Parcel, download, look, run, upload};
use crate::machine_plan::{body, hosts_file, registries};
use crate::made_by_kind;
use crate::network::cause_of;
use crate::observed::Observed;
use crate::ownership::{Found, may_change, may_complete, may_delete};
use crate::pinned;
use crate::proxies::with_texts;
use crate::steps::FOLDER;
use crate::upgrade;
use crate::volume;
use crate::wait::last_look;

/// How long a machine may take to stop by itself, in seconds.
const STOP_SECONDS: i32 = 20;
/// What a node image says once its services are started, as kind waits for it.
const STARTED: [&str; 2] = ["detected cgroup v1", "Multi-User System"];
/// The pauses between two looks at one that is not ready.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a port that is held is waited for.
const PORT_PATIENCE: Duration = Duration::from_secs(15);
/// How long a log may take to be read, and how many of its last lines are told.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);
const TOLD: usize = 6;
/// Where containerd looks for who answers pulls.
const CERTS: &str = "/etc/containerd/certs.d";
/// Its configuration, and what that is in the image where it is changed.
pub(crate) const CONFIG: &str = "/etc/containerd/config.toml";
const CONFIG_OF_IMAGE: &str = "/etc/containerd/config.toml.image";
/// Where Kubernetes keeps certificates and manifests: a link to what the machine keeps.
const KUBERNETES: &str = "etc/kubernetes";
/// Tells whether a machine that was bootstrapped is a node again: its API server answers, where it shall have one, and its kubelet
/// has reported since the machine was started, for what was reported before tells nothing. One that was never bootstrapped, by us or by kind, is
/// ready to be; one that was emptied for an upgrade is not ready until it takes pods again. Arguments: its name, its role, when it was
/// started, the client of its own API server, the sign that it was emptied, and what is said then; and what tells its certificates, which
/// are all that it says otherwise.
const IS_NODE: &str = r#"
name=$1 role=$2 started=$3 kubectl=$4 emptied=$5 why=$6 gather=$7
if [ ! -s /etc/kubernetes/kubelet.conf ] || [ -e /var/lib/ksail/bootstrap ]; then
  [ "$(cat /var/lib/ksail/bootstrap/exit 2>/dev/null)" = 0 ] || exit 0
fi
(eval "$gather")
exec >&2
if [ "$role" = control-plane ]; then
  said=$($kubectl get --raw=/readyz --request-timeout=5s 2>&1) || { echo "its API server does not answer: $said"; exit 1; }
fi
beat=$(kubectl --kubeconfig=/etc/kubernetes/kubelet.conf get node "$name" --request-timeout=5s \
  -o 'jsonpath={.status.conditions[?(@.type=="Ready")].lastHeartbeatTime}' 2>&1) || { echo "its kubelet has no access yet: $beat"; exit 1; }
if [ -z "$beat" ] || [ "$(date -d "$beat" +%s)" -lt "$started" ]; then
  echo "its kubelet has not reported since it was started"
  exit 1
fi
if [ -e "$emptied" ]; then echo "$why"; exit 1; fi
"#;
fn what_of(name: &str) -> String {
    format!("machine `{name}`")
}

fn typed(call: &Call, what: &str, spec: &Value) -> Result<MachineSpec, CallError> {
    MachineSpec::from_value(spec).map_err(|error| call.refused(what, &cause_of(&error)))
}

/// What is seen of a machine. One whose container is gone is there as long as its volume is, and does not run.
pub(crate) async fn observe(
    call: &Call,
    containers: &[bollard::models::ContainerSummary],
    volumes: &[bollard::models::Volume],
    target: &Target,
) -> Result<Observation, CallError> {
    if let Some(id) = find(containers, &target.identity)
        && let Some(observed) = inspect(call, &id).await?
    {
        return Ok(Observation::Present(Box::new(seen(call, &observed, target.spec.as_ref()).await?)));
    }
    // Only what was made before has an id: a volume alone is no machine yet.
    let (Some(id), Some(spec)) = (&target.id, &target.spec) else { return Ok(Observation::Absent) };
    let name = spec.field("volume").and_then(Value::as_str).unwrap_or_default();
    let kept = volumes.iter().find(|volume| volume.name == name).and_then(volume::mark);
    let Some(kept) = kept.filter(|mark| mark.lineage == call.context.lineage) else { return Ok(Observation::Absent) };
    let mut fields = spec.clone();
    fields.set(&Path::key("running"), Value::from(false));
    Ok(Observation::Present(Box::new(Seen {
        id: Some(id.clone()),
        fields,
        attributes: Value::map([("name", target.identity.name.as_str())]),
        mark: Some(Mark { address: target.address.clone(), ..kept }),
        readiness: Readiness::NotReady("its container is gone; its volume is there".to_owned()),
        others: Vec::new(),
    })))
}

/// What is seen of a machine that has a container.
pub(crate) async fn seen(call: &Call, observed: &Observed, declared: Option<&Value>) -> Result<Seen, CallError> {
    let name = observed.name();
    let what = format!("look at {}", what_of(name));
    let files = download(call, observed.id(), &what, CERTS).await?.unwrap_or_default();
    let mut fields = observed.machine_fields(registries(&files));
    if let Some(declared) = declared.filter(|_| observed.mark().is_none()) {
        fields = made_by_kind::machine_fields(call, observed.id(), &what, fields, declared).await?;
    }
    let role = fields.field("role").and_then(Value::as_str).unwrap_or_default().to_owned();
    let shall_run = declared.and_then(|spec| spec.field("running")).and_then(Value::as_bool);
    let (readiness, certificates) = if observed.is_running() {
        readiness(call, observed, &role).await?
    } else {
        let readiness = match observed.not_running().filter(|_| shall_run != Some(false) || !observed.is_stopped()) {
            Some(why) => Readiness::NotReady(why),
            None => Readiness::Ready,
        };
        (readiness, certificates::state_of_stopped(call, observed.id(), &what, &role).await?)
    };
    fields.set(&Path::key("certificates"), Value::from(certificates));
    Ok(Seen {
        id: Some(name.to_owned()),
        fields,
        attributes: Value::map([("name", name)]),
        mark: observed.mark(),
        readiness,
        others: Vec::new(),
    })
}

/// Whether a machine that runs is ready, and what is said of its certificates.
async fn readiness(call: &Call, observed: &Observed, role: &str) -> Result<(Readiness, String), CallError> {
    let valid = || MachineSpec::VALID.to_owned();
    if let Some(why) = observed.not_running() {
        return Ok((Readiness::NotReady(why), valid()));
    }
    let log = log(call, observed).await?;
    if !log.lines().any(|line| STARTED.iter().any(|started| line.contains(started))) {
        return Ok((Readiness::NotReady("its services are being started".to_owned()), valid()));
    }
    let started = observed.started_at().unwrap_or_default().to_string();
    let what = format!("ask {} whether it is a node", what_of(observed.name()));
    let kubectl = kubectl();
    let arguments =
        [observed.name(), role, &started, &kubectl, drain::EMPTIED, drain::TAKES_NO_PODS, certificates::GATHER];
    let command: Vec<&str> = ["sh", "-c", IS_NODE, "sh"].into_iter().chain(arguments).collect();
    let Some(output) = look(call, observed.id(), &what, &command).await? else {
        return Ok((Readiness::NotReady("its container is gone".to_owned()), valid()));
    };
    let certificates = certificates::state(&output.stdout, role);
    let readiness = match output.is_success() {
        true => Readiness::Ready,
        false if certificates != MachineSpec::VALID => Readiness::NotReady(certificates.clone()),
        false => Readiness::NotReady(output.end(1)),
    };
    Ok((readiness, certificates))
}

/// What the machine has said since it was started.
async fn log(call: &Call, observed: &Observed) -> Result<String, CallError> {
    let what = format!("read the log of {}", what_of(observed.name()));
    let options = LogsOptions {
        stdout: true,
        stderr: true,
        since: observed.started_at().unwrap_or_default(),
        tail: "all".to_owned(),
        ..Default::default()
    };
    let mut log = call.session.docker.logs(observed.id(), Some(options));
    let read = async {
        let mut text = Vec::new();
        while let Some(Ok(said)) = log.next().await {
            text.extend_from_slice(&said.into_bytes());
            text.push(b'\n');
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let read = call.aside(&what, tokio::time::timeout(LOG_TIMEOUT, read)).await?;
    Ok(read.unwrap_or_default())
}

pub(crate) async fn create(call: &Call, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    let mut wanted = typed(call, &what, spec)?;
    wanted.proxy = with_texts(&wanted.proxy, &request.secrets);
    match look_at(call, name).await? {
        Some(observed) => {
            let place = format!("{what} on the engine at {}", call.place());
            let mark = observed.mark();
            may_complete(&place, &Found { id: name, mark: mark.as_ref() }, &request.mark)?;
            same_where_fixed(&place, MachineSpec::KIND, spec, &observed.machine_fields(wanted.registries.clone()))?;
        }
        None => make(call, &what, name, &wanted, &request.mark, spec).await?,
    }
    complete(call, &what, name, &wanted, spec).await
}

/// What a machine's container was made for.
pub(crate) async fn spec_of(call: &Call, name: &str, doing: &str) -> Result<MachineSpec, CallError> {
    let observed = look_at(call, name).await?;
    let observed = observed.ok_or_else(|| call.refused(doing, "its machine has no container").hint("plan again"))?;
    typed(call, doing, &observed.machine_fields(std::collections::BTreeMap::new()))
}

/// The container of a name, once a removal that is under way is over.
async fn look_at(call: &Call, name: &str) -> Result<Option<Observed>, CallError> {
    let found = inspect(call, name).await?.filter(|observed| observed.name() == name);
    match found {
        Some(observed) if observed.is_being_removed() => {
            until_removed(call, &what_of(name), observed.id()).await?;
            Ok(None)
        }
        found => Ok(found),
    }
}

async fn make(
    call: &Call,
    what: &str,
    name: &str,
    wanted: &MachineSpec,
    mark: &Mark,
    spec: &Value,
) -> Result<(), CallError> {
    let doing = format!("create {what}");
    if VolumeSpec::is_anonymous(&wanted.volume) {
        let why = "its volume is what kind made for another container, which is gone with what the node was";
        return Err(call.refused(&doing, why).hint("make the volume anew too: `--replace` it"));
    }
    let body = pinned::on_engine(call, &doing, body(name, wanted, mark, spec)).await?;
    let last_look = last_look(call);
    loop {
        let options =
            bollard::query_parameters::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let made = call.session.docker.create_container(Some(options), body.clone());
        let (status, message) = match call.change(&doing, made).await {
            Ok(_) => return Ok(()),
            Err(Failed::Answered { status, message }) => (status, message),
            Err(failed) => return Err(failed.into_error(call, &doing)),
        };
        // Another call of ours may have made it.
        if let Some(observed) = look_at(call, name).await? {
            let mark_there = observed.mark();
            return may_complete(what, &Found { id: name, mark: mark_there.as_ref() }, mark);
        }
        // The name is taken and nothing is there: the engine still makes what a killed call has asked for.
        if status == 409 && Instant::now() < last_look {
            call.pause(&doing, LONGEST_PAUSE).await?;
            continue;
        }
        let error = call.answered(&doing, status, &message);
        return Err(if status == 404 && message.to_lowercase().contains("image") {
            error.hint(format!("the node image is not on the engine: `docker pull {}`, or load it", wanted.image))
        } else {
            error
        });
    }
}

/// Brings what is there to what is wanted. What is made and cannot be started is taken away again: its volume is not its own.
async fn complete(call: &Call, what: &str, name: &str, wanted: &MachineSpec, spec: &Value) -> Result<Seen, CallError> {
    let Some(observed) = look_at(call, name).await? else {
        return Err(CallError::indeterminate(format!("{what} was made at {} and is gone", call.place())));
    };
    if observed.is_stopped() && wanted.running {
        // One that was imported has what it needs, and keeps in its container what ours keep on their volume.
        let is_ours = observed.mark().is_some();
        if is_ours {
            furnish(call, what, name, wanted).await?;
        }
        if let Err(error) = start(call, what, name).await {
            if is_ours && error.kind == ksail_provider::CallErrorKind::Refused {
                remove(call, what, name).await?;
            }
            return Err(error);
        }
    }
    look_again(call, what, name, spec).await
}

async fn look_again(call: &Call, what: &str, name: &str, spec: &Value) -> Result<Seen, CallError> {
    match look_at(call, name).await? {
        Some(observed) => seen(call, &observed, Some(spec)).await,
        None => Err(CallError::indeterminate(format!("{what} was changed at {} and is gone", call.place()))),
    }
}

/// Puts into a container what is not of its image: the link by which Kubernetes keeps its files on the volume, and who answers
/// pulls. It can be done as often as one likes.
async fn furnish(call: &Call, what: &str, name: &str, wanted: &MachineSpec) -> Result<(), CallError> {
    let doing = format!("furnish {what}");
    let kept = format!("{}/kubernetes", FOLDER.trim_start_matches('/'));
    let mut parcel = Parcel::new();
    pack_containerd(call, &mut parcel, name, wanted, &doing).await?;
    let packed = parcel
        .folder(&format!("{kept}/manifests"))
        .and_then(|()| parcel.link(KUBERNETES, &format!("/{kept}")))
        .and_then(|()| pack_registries(&mut parcel, wanted))
        .and_then(|()| parcel.bytes());
    let packed = packed.map_err(|error| call.refused(&doing, &error.to_string()))?;
    upload(call, name, &doing, "/", packed).await
}

/// Changes containerd's configuration as it is in the image. That is kept beside it, so that it can be changed again.
async fn pack_containerd(
    call: &Call,
    parcel: &mut Parcel,
    name: &str,
    wanted: &MachineSpec,
    doing: &str,
) -> Result<(), CallError> {
    if wanted.containerd.is_empty() {
        return Ok(());
    }
    let mut of_image = None;
    for path in [CONFIG_OF_IMAGE, CONFIG] {
        let files = download(call, name, doing, path).await?;
        of_image = of_image.or(files.and_then(|files| files.into_iter().next()));
    }
    let (_, of_image) = of_image.ok_or_else(|| call.refused(doing, &format!("its image has no {CONFIG}")))?;
    let changed = wanted.containerd.apply(&of_image).map_err(|why| call.refused(doing, &why))?;
    let packed = [(CONFIG_OF_IMAGE, &of_image), (CONFIG, &changed)]
        .into_iter()
        .try_for_each(|(path, text)| parcel.file(path.trim_start_matches('/'), text));
    packed.map_err(|error| call.refused(doing, &error.to_string()))
}

fn pack_registries(parcel: &mut Parcel, wanted: &MachineSpec) -> std::io::Result<()> {
    for (host, url) in &wanted.registries {
        parcel.file(&format!("{}/{host}/hosts.toml", CERTS.trim_start_matches('/')), &hosts_file(url))?;
    }
    Ok(())
}

async fn start(call: &Call, what: &str, name: &str) -> Result<(), CallError> {
    let doing = format!("start {what}");
    let begun = Instant::now();
    let mut started = call.change(&doing, call.session.docker.start_container(name, None)).await;
    // Who held the port may be going: a load balancer that is not needed any more, or a container that ends.
    while let Err(Failed::Answered { message, .. }) = &started
        && is_port_conflict(message)
        && begun.elapsed() < PORT_PATIENCE
    {
        call.pause(&doing, LONGEST_PAUSE).await?;
        started = call.change(&doing, call.session.docker.start_container(name, None)).await;
    }
    match started {
        Ok(()) => Ok(()),
        Err(Failed::Answered { status, message }) => {
            if look_at(call, name).await?.is_some_and(|observed| observed.is_running()) {
                return Ok(());
            }
            let error = call.answered(&doing, status, &message);
            Err(if is_port_conflict(&message) {
                error.hint("free the port: `ss -ltnp` tells what holds it")
            } else if message.contains("Address already in use") {
                error.hint("another container has the machine's address: `docker network inspect` tells which")
            } else {
                error
            })
        }
        Err(failed) => Err(failed.into_error(call, &doing)),
    }
}

pub(crate) async fn remove(call: &Call, what: &str, name: &str) -> Result<bool, CallError> {
    remove_with(call, what, name, true).await
}

/// The same, with its volumes without a name, or without them.
async fn remove_with(call: &Call, what: &str, name: &str, v: bool) -> Result<bool, CallError> {
    let doing = format!("delete {what}");
    let options = RemoveContainerOptions { v, force: true, link: false };
    match call.change(&doing, call.session.docker.remove_container(name, Some(options))).await {
        Ok(()) => Ok(true),
        Err(Failed::Answered { status: 404, .. }) => Ok(false),
        Err(Failed::Answered { status: 409, .. }) => {
            until_removed(call, what, name).await?;
            Ok(true)
        }
        Err(failed) => Err(failed.into_error(call, &doing)),
    }
}

/// The fields whose change needs another container.
pub(crate) const OF_CONTAINER: [&str; 9] =
    ["image", "ipv6", "port", "api_address", "ports", "mounts", "aliases", "dns_search", "containerd"];

/// Whether a change of the field needs another container.
fn needs_container(path: &Path) -> bool {
    matches!(path.steps().first(), Some(Step::Key(key)) if OF_CONTAINER.contains(&key.as_str()))
}

pub(crate) async fn update(call: &Call, request: &UpdateRequest, spec: &Value) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    let mut wanted = typed(call, &what, spec)?;
    wanted.proxy = with_texts(&wanted.proxy, &request.secrets);
    let observed = look_at(call, name).await?;
    if let Some(observed) = &observed {
        let mark = observed.mark();
        let place = format!("{what} on the engine at {}", call.place());
        may_change(&place, &Found { id: name, mark: mark.as_ref() }, &request.mark, request.target.id.as_deref())?;
    }
    let is_kept = observed.is_some() && !request.changed.iter().any(needs_container);
    if !is_kept && observed.as_ref().is_some_and(|observed| observed.mark().is_none()) {
        let why = "kind made its container with what the node is in it, and none can take its place";
        return Err(call.refused(&format!("change {what}"), why).hint(made_by_kind::hint(&request.target)));
    }
    if !is_kept {
        if let Some(observed) = &observed {
            if request.changed.iter().any(is_image) && observed.is_running() {
                upgrade::prepare(call, name, &wanted).await?;
            }
            // In order, so that what it keeps is whole.
            stop(call, &what, name).await?;
            remove(call, &what, name).await?;
        }
        make(call, &what, name, &wanted, &request.mark, spec).await?;
    }
    match observed.filter(|_| is_kept) {
        Some(observed) if observed.is_running() && wanted.running => {
            change_registries(call, &what, name, &request.current, &wanted).await?;
        }
        Some(observed) if observed.is_paused() && wanted.running => {
            let doing = format!("start {what}");
            let reply = call.change(&doing, call.session.docker.unpause_container(name)).await;
            reply.map_err(|failed| failed.into_error(call, &doing))?;
        }
        Some(_) if !wanted.running => stop(call, &what, name).await?,
        _ => {}
    }
    let seen = complete(call, &what, name, &wanted, spec).await?;
    let is_renewed = |path: &Path| *path == Path::key("certificates");
    if !wanted.running || !request.changed.iter().any(is_renewed) {
        return Ok(seen);
    }
    certificates::renew(call, name, &wanted).await?;
    look_again(call, &what, name, spec).await
}

fn is_image(path: &Path) -> bool {
    matches!(path.steps().first(), Some(Step::Key(key)) if key == "image")
}

async fn change_registries(
    call: &Call,
    what: &str,
    name: &str,
    current: &Value,
    wanted: &MachineSpec,
) -> Result<(), CallError> {
    let doing = format!("change who answers pulls of {what}");
    let before = current.field("registries").and_then(Value::as_map);
    let gone: Vec<String> = before
        .iter()
        .flat_map(|map| map.keys())
        .filter(|host| !wanted.registries.contains_key(host.as_str()))
        .map(|host| format!("{CERTS}/{host}"))
        .collect();
    let mut parcel = Parcel::new();
    let packed = pack_registries(&mut parcel, wanted).and_then(|()| parcel.bytes());
    let packed = packed.map_err(|error| call.refused(&doing, &error.to_string()))?;
    upload(call, name, &doing, "/", packed).await?;
    if !gone.is_empty() {
        let command: Vec<&str> = ["rm", "-rf", "--"].into_iter().chain(gone.iter().map(String::as_str)).collect();
        let output = run(call, name, &doing, &command, "").await?;
        if !output.is_success() {
            return Err(call.refused(&doing, &output.end(1)));
        }
    }
    Ok(())
}

async fn stop(call: &Call, what: &str, name: &str) -> Result<(), CallError> {
    let doing = format!("stop {what}");
    let options = StopContainerOptions { t: Some(STOP_SECONDS), ..Default::default() };
    match call.change(&doing, call.session.docker.stop_container(name, Some(options))).await {
        Ok(()) | Err(Failed::Answered { status: 304 | 404, .. }) => Ok(()),
        Err(failed) => Err(failed.into_error(call, &doing)),
    }
}

pub(crate) async fn delete(call: &Call, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    let Some(observed) = look_at(call, name).await? else { return Ok(Deleted::WasAbsent) };
    let mark = observed.mark();
    let place = format!("{what} on the engine at {}", call.place());
    if !may_delete(&place, &Found { id: name, mark: mark.as_ref() }, request)? {
        return Ok(Deleted::WasAbsent);
    }
    // What an imported one keeps is on a volume without a name, which is a resource of its own.
    let with_volumes = observed.mark().is_some();
    Ok(if remove_with(call, &what, name, with_volumes).await? { Deleted::Gone } else { Deleted::WasAbsent })
}

/// Waits until a machine is ready; at the deadline, or where it can no longer become ready, tells why it is not.
pub(crate) async fn wait(call: &Call, target: &Target) -> Result<Seen, CallError> {
    let name = &target.identity.name;
    let what = what_of(name);
    let last_look = last_look(call);
    let mut pause = FIRST_PAUSE;
    loop {
        let containers = list(call).await?;
        let observed = match find(&containers, &target.identity) {
            Some(id) => inspect(call, &id).await?,
            None => None,
        };
        let Some(observed) = observed else {
            return Err(call.refused(&format!("wait for {what}"), "it has no container").hint("plan again"));
        };
        let mut seen = seen(call, &observed, target.spec.as_ref()).await?;
        if matches!(&seen.readiness, Readiness::NotReady(why) if why == drain::TAKES_NO_PODS)
            && let Some(cluster) = cluster_of(&containers, name)
        {
            drain::take_pods_again(call, &cluster, name, &what).await?;
            continue;
        }
        let is_over = !observed.is_running() || Instant::now() >= last_look;
        if let Readiness::NotReady(why) = &seen.readiness
            && is_over
        {
            let log = log(call, &observed).await.unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let end = lines[lines.len().saturating_sub(TOLD)..].join("\n");
            seen.readiness = Readiness::NotReady(format!("{why}\n{end}"));
        }
        if seen.readiness.is_ready() || is_over {
            return Ok(seen);
        }
        call.pause(&what, pause.min(last_look.saturating_duration_since(Instant::now()))).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
