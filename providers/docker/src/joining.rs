//! How a machine joins the cluster that others began.

use ksail_kinds::{BootstrapSpec, EtcdMemberSpec};
use ksail_model::Value;
use ksail_provider::CallError;

use crate::bootstrap::{TOLD, document_of, what_of};
use crate::call::Call;
use crate::container;
use crate::control_plane::{self, kubectl, members, needed_of};
use crate::etcd;
use crate::exec::{Parcel, look, run, upload};
use crate::node_addresses::told;
use crate::steps;

/// What machines of one control plane share: the authorities, the key of service accounts, and the administrator's access, which would be
/// another one on each of them.
const SHARED: [&str; 9] = [
    "admin.conf",
    "pki/ca.crt",
    "pki/ca.key",
    "pki/etcd/ca.crt",
    "pki/etcd/ca.key",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-ca.key",
    "pki/sa.key",
    "pki/sa.pub",
];

/// Puts it where kubeadm expects it, once what a run before has left is gone.
pub(crate) const TAKE_KEYS: &str = "cp -a /var/lib/ksail/keys/. /etc/kubernetes/\n\
     rm -rf /var/lib/ksail/keys\n";

/// Whether a machine is of a cluster already (0), or not yet (100).
const IS_BEGUN: &str = "[ -e /etc/kubernetes/admin.conf ] || exit 100";

/// What the configuration says of a machine that joins.
fn join_of(config: &[Value]) -> Option<&Value> {
    document_of(config, "JoinConfiguration")
}

/// The token with which the configuration lets a machine join.
fn token(config: &[Value]) -> Option<String> {
    let token = join_of(config)?.field("discovery")?.field("bootstrapToken")?.field("token")?;
    token.as_str().map(str::to_owned)
}

/// What the configuration says of a machine that joins the control plane.
fn control_plane_of(config: &[Value]) -> Option<&Value> {
    join_of(config)?.field("controlPlane")
}

/// Where the API server and etcd of a machine of the control plane answer: where its configuration says, or at the address that the
/// engine gave it.
async fn advertised(call: &Call, machine: &str, of_control_plane: &Value) -> Result<String, CallError> {
    let said = of_control_plane.field("localAPIEndpoint").and_then(|endpoint| endpoint.field("advertiseAddress"));
    if let Some(said) = said.and_then(Value::as_str) {
        return Ok(said.to_owned());
    }
    let observed = container::inspect(call, machine).await?;
    let given = observed.and_then(|observed| observed.address(observed.networks().first()?));
    given.ok_or_else(|| call.refused(&what_of(machine), "its machine has no address on the network").hint("plan again"))
}

/// Lets machines join by the token: the one that the cluster began with is good for a day.
async fn admit(call: &Call, through: &str, what: &str, token: &str) -> Result<(), CallError> {
    let doing = format!("let {what} join through `{through}`");
    let id = token.split('.').next().unwrap_or_default();
    let kubectl = kubectl();
    let program = format!(
        "{kubectl} -n kube-system get secret bootstrap-token-{id} >/dev/null 2>&1 || kubeadm token create \"$1\" >/dev/null"
    );
    let output = run(call, through, &doing, &["sh", "-c", &program, "sh", token], "").await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(&doing, &output.end(TOLD))) }
}

/// The machine through which one joins: the one that is named, or another that serves.
async fn door(call: &Call, cluster: &str, machine: &str, what: &str, named: Option<&str>) -> Result<String, CallError> {
    let mut others = members(&container::list(call).await?, cluster);
    others.retain(|member| member.name != machine);
    others.sort_by_key(|member| named != Some(member.name.as_str()));
    needed_of(call, &others, &format!("let {what} join")).await
}

/// Whether other machines run the control plane that this one would begin: then it joins them, for a second cluster under the same
/// name would be none that anybody wants.
pub(crate) async fn is_begun(call: &Call, cluster: &str, machine: &str, what: &str) -> Result<bool, CallError> {
    let doing = format!("begin the cluster of {what}");
    let members = members(&container::list(call).await?, cluster);
    for member in members.iter().filter(|member| member.name != machine) {
        let known = match member.is_running {
            true => look(call, &member.name, &doing, &["sh", "-c", IS_BEGUN]).await?,
            false => None,
        };
        match known {
            Some(output) if output.code == 100 => {}
            Some(output) if output.is_success() => return Ok(true),
            _ => {
                let why = format!("`{}` does not run, and may be a machine of it already", member.name);
                return Err(call.refused(&doing, &why).hint("plan again: what stands still is started first"));
            }
        }
    }
    Ok(false)
}

/// Gives a machine what all machines of a control plane share. What etcd still knows of a former machine of this name is forgotten, or
/// its successor would be taken for it.
async fn prepare_control_plane(
    call: &Call,
    machine: &str,
    what: &str,
    through: &str,
    address: &str,
) -> Result<(), CallError> {
    let doing = format!("let {what} join the control plane through `{through}`");
    let mut parcel = Parcel::new();
    for name in SHARED {
        let path = format!("/etc/kubernetes/{name}");
        let output = look(call, through, &doing, &["cat", &path]).await?;
        let output = output.ok_or_else(|| call.refused(&doing, "it is gone"))?;
        if !output.is_success() {
            return Err(call.refused(&doing, &output.end(1)));
        }
        let to = format!("{}/keys/{name}", steps::FOLDER.trim_start_matches('/'));
        parcel.secret(&to, &output.stdout).map_err(|error| call.refused(&doing, &error.to_string()))?;
    }
    let packed = parcel.bytes().map_err(|error| call.refused(&doing, &error.to_string()))?;
    upload(call, machine, &doing, "/", packed).await?;
    etcd::remove(call, through, &doing, machine, &EtcdMemberSpec::peer_at(address)).await.map(drop)
}

/// Takes away the object of a node that was lost with all that its machine kept: kubeadm lets none join in its place.
async fn forget_node(call: &Call, machine: &str, what: &str, through: &str) -> Result<(), CallError> {
    let doing = format!("forget what {what} was before");
    control_plane::apply(call, through, &doing, &["delete", "node", machine, "--ignore-not-found"], "").await
}

/// Lets a machine join, through one that serves. Answers whether it joins the control plane.
pub(crate) async fn prepare(
    call: &Call,
    cluster: &str,
    machine: &str,
    what: &str,
    wanted: &BootstrapSpec,
) -> Result<bool, CallError> {
    let through = door(call, cluster, machine, what, wanted.through.as_deref()).await?;
    if let Some(token) = token(&wanted.config) {
        admit(call, &through, what, &token).await?;
    }
    forget_node(call, machine, what, &through).await?;
    let config = told(call, machine, wanted.config.clone()).await?;
    let Some(of_control_plane) = control_plane_of(&config) else { return Ok(false) };
    let address = advertised(call, machine, of_control_plane).await?;
    prepare_control_plane(call, machine, what, &through, &address).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_token_is_the_one_of_the_configuration() {
        let join = json!({"kind": "JoinConfiguration", "discovery": {"bootstrapToken": {"token": "abcdef.0"}}});
        assert_eq!(token(&[Value::from(join)]).as_deref(), Some("abcdef.0"));
        assert_eq!(token(&[Value::from(json!({"kind": "InitConfiguration"}))]), None);
    }

    #[test]
    fn who_joins_the_control_plane_is_told_so() {
        let join = |document: serde_json::Value| [Value::from(document)];
        assert!(control_plane_of(&join(json!({"kind": "JoinConfiguration"}))).is_none());
        let without_address =
            join(json!({"kind": "JoinConfiguration", "controlPlane": {"localAPIEndpoint": {"bindPort": 6443}}}));
        assert!(control_plane_of(&without_address).is_some(), "where it is may be found out later");
    }
}
