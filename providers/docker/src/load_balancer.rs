//! Load balancers: HAProxy before the API servers of a cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bollard::models::ContainerSummary;
use ksail_kinds::{LoadBalancerSpec, Port, Protocol, Restart};
use ksail_model::{Readiness, Value};
use ksail_provider::{CallError, CallErrorKind};

use crate::call::Call;
use crate::exec::look;
use crate::labels::Labels;
use crate::machine_plan::{CLUSTER, ROLE};
use crate::observed::Observed;
use crate::plan::ContainerPlan;

/// By this role kind knows that the API is reached through it.
pub(crate) const BALANCER: &str = "external-load-balancer";
/// What is before the API servers, as JSON: the configuration is made from it.
const BACKENDS: &str = "dev.ksail.backends";
/// The variable that holds the configuration, so that it is there whenever the container starts.
const CONFIG: &str = "HAPROXY_CONFIG";
/// Starts it with that configuration. The socket is there once it listens.
const START: &str = r#"rm -f /tmp/haproxy.sock; printf '%s' "$HAPROXY_CONFIG" >/tmp/haproxy.cfg && exec haproxy -W -db -f /tmp/haproxy.cfg"#;
const LISTENS: &str = "test -S /tmp/haproxy.sock";

/// How servers are found whose machines have no address of their own choosing: by name, again and again.
const BY_NAME: &str = "resolvers engine
  parse-resolv-conf
  hold valid 2s
  hold obsolete 10s
  resolve_retries 3
  timeout resolve 1s
  timeout retry 1s
";

/// What HAProxy is told: connections go, untouched, to servers that say they are ready.
fn config(backends: &BTreeMap<String, String>, ipv6: bool) -> String {
    let at = if ipv6 { ":::" } else { "*:" };
    let families = if ipv6 { " v4v6" } else { "" };
    let mut text = format!(
        "global
  log stdout format raw local0 notice
  maxconn 4000
  stats socket /tmp/haproxy.sock
defaults
  mode tcp
  log global
  retries 2
  timeout connect 3s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend api
  bind {at}{}{families}
  default_backend control-planes
backend control-planes
  option httpchk GET /readyz
  http-check expect status 200
  default-server check check-ssl verify none inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
",
        LoadBalancerSpec::PORT
    );
    let mut asks = false;
    for (name, address) in backends {
        let _ = if is_by_name(address) {
            asks = true;
            let family = if ipv6 { "ipv6" } else { "ipv4" };
            writeln!(text, "  server {name} {address} resolvers engine resolve-prefer {family} init-addr none")
        } else {
            writeln!(text, "  server {name} {address}")
        };
    }
    if asks {
        text.push_str(BY_NAME);
    }
    text
}

fn is_by_name(address: &str) -> bool {
    address.parse::<core::net::SocketAddr>().is_err()
}

/// The container of a load balancer.
pub(crate) fn plan(spec: LoadBalancerSpec) -> ContainerPlan {
    let labels = Labels::from([
        (CLUSTER.to_owned(), spec.cluster),
        (ROLE.to_owned(), BALANCER.to_owned()),
        (BACKENDS.to_owned(), serde_json::to_string(&spec.backends).unwrap_or_default()),
    ]);
    ContainerPlan {
        image: spec.image,
        command: ["sh", "-c", START].map(str::to_owned).into(),
        env: vec![(CONFIG.to_owned(), config(&spec.backends, spec.ipv6))],
        mounts: Vec::new(),
        ports: vec![Port {
            container: LoadBalancerSpec::PORT,
            host: spec.port,
            address: spec.address,
            protocol: Protocol::Tcp,
        }],
        networks: vec![spec.network],
        ipv6: spec.ipv6,
        restart: Restart::UnlessStopped,
        running: spec.running,
        labels,
    }
}

/// Whether one that runs listens. Whether a server answers behind it is no matter of its own.
pub(crate) async fn readiness(call: &Call, observed: &Observed) -> Result<Readiness, CallError> {
    let what = format!("ask the load balancer `{}` whether it listens", observed.name());
    Ok(match look(call, observed.id(), &what, &["sh", "-c", LISTENS]).await {
        Ok(Some(output)) if output.is_success() => Readiness::Ready,
        // In one that ends at this moment nothing can be run.
        Ok(_) => Readiness::NotReady("it does not listen yet".to_owned()),
        Err(error) if error.kind == CallErrorKind::Refused => Readiness::NotReady(error.message),
        Err(error) => return Err(error),
    })
}

/// The container that stands before the API servers of a cluster, whoever made it.
pub(crate) fn of_cluster(containers: &[ContainerSummary], cluster: &str) -> Option<String> {
    let is_its = |container: &&ContainerSummary| {
        let label = |name: &str| container.labels.as_ref()?.get(name).map(String::as_str);
        label(CLUSTER) == Some(cluster) && label(ROLE) == Some(BALANCER)
    };
    let found = containers.iter().find(is_its)?;
    Some(found.names.as_ref()?.first()?.trim_start_matches('/').to_owned())
}

impl Observed {
    /// Where the API is reached on the engine's machine, of a container that publishes it.
    pub(crate) fn published_api(&self) -> Option<Port> {
        self.published().into_iter().find(|port| port.container == LoadBalancerSpec::PORT)
    }

    /// The fields of a load balancer.
    pub(crate) fn load_balancer_fields(&self) -> Value {
        let label = |name: &str| self.labels().and_then(|labels| labels.get(name)).cloned();
        let backends = label(BACKENDS).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let port = self.published_api();
        let mut fields = vec![
            ("image", self.image()),
            ("cluster", Value::from(label(CLUSTER))),
            ("network", Value::from(self.networks().into_iter().next())),
            ("address", Value::from(port.as_ref().map(|port| port.address.clone()))),
            ("port", Value::from(port.map(|port| port.host))),
            ("backends", backends.map(Value::from).unwrap_or_default()),
            ("running", Value::from(self.is_running())),
        ];
        fields.extend(self.speaks_ipv6().then_some(("ipv6", Value::from(true))));
        Value::map(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_control_plane_is_a_server() {
        let backends = BTreeMap::from([
            ("dev-control-plane".to_owned(), "10.170.3.2:6443".to_owned()),
            ("dev-control-plane2".to_owned(), "10.170.3.3:6443".to_owned()),
        ]);
        let text = config(&backends, false);
        assert!(text.contains("bind *:6443\n"), "{text}");
        assert!(
            text.ends_with("  server dev-control-plane 10.170.3.2:6443\n  server dev-control-plane2 10.170.3.3:6443\n")
        );
        assert!(config(&backends, true).contains("bind :::6443 v4v6\n"), "machines may ask by either family");
    }

    #[test]
    fn servers_without_an_address_of_their_own_are_looked_up() {
        let backends = BTreeMap::from([("dev-control-plane".to_owned(), "dev-control-plane:6443".to_owned())]);
        let text = config(&backends, false);
        let server =
            "  server dev-control-plane dev-control-plane:6443 resolvers engine resolve-prefer ipv4 init-addr none\n";
        assert!(text.ends_with(&format!("{server}{BY_NAME}")), "{text}");
        let fixed = BTreeMap::from([("a".to_owned(), "[fd00::2]:6443".to_owned())]);
        assert!(config(&fixed, true).ends_with("  server a [fd00::2]:6443\n"));
    }
}
