//! What several control planes need beside what each machine needs: a load balancer, an order in which they join, and a place in
//! etcd that they leave again.

use std::collections::BTreeMap;

use ksail_kinds::{BootstrapSpec, ClusterSpec, EtcdMemberSpec, LoadBalancerSpec, MachineSpec, Spec as _};
use ksail_model::{Address, Condition, Edge, ForceOn, Origin, Origins, Path, Strength};

use super::machines::{API_PORTS, Common, edge};
use super::resources::{Builder, choose_port, derived};
use crate::catalogue;
use crate::format::NodeRole;
use crate::image_reference;
use crate::kind_file::KindFile;
use crate::nodes::Node;

impl Builder<'_> {
    /// The name by which machines reach the API: that of kind's load balancer. The only control plane answers to it too, so that it
    /// stays what it is when there are more of them, or fewer.
    pub(super) fn api_name(&self) -> String {
        format!("{}-external-load-balancer", self.cluster)
    }

    /// What stands before several control planes.
    pub(super) fn load_balancer(
        &mut self,
        network: &Address,
        file: &KindFile,
        backends: BTreeMap<String, String>,
    ) -> Address {
        let rules = self.loaded.config.spec.images.as_slice();
        let (reference, rule) = image_reference::rewrite(catalogue::LOAD_BALANCER.reference, rules);
        let image_origin = match rule {
            Some(index) => self.origin(&format!("spec.images[{index}].to")),
            None => Origin::Catalogue { entry: catalogue::LOAD_BALANCER.entry.into() },
        };
        let image = self.needed_image(&reference, &image_origin, "the load balancer needs it");
        let networking = &file.networking;
        let port = networking.api_port.unwrap_or_default();
        let spec = LoadBalancerSpec {
            image: reference,
            cluster: self.cluster.to_owned(),
            network: self.cluster.to_owned(),
            address: networking.api_address.clone().unwrap_or_else(|| ClusterSpec::LOOPBACK.to_owned()),
            port,
            ipv6: networking.family.has_v6(),
            backends,
            running: true,
        };
        let mut origins = Origins::all(self.origin("spec.cluster.controlPlanes"));
        origins.set(Path::key("image"), image_origin);
        origins.set(
            Path::key("address"),
            match &networking.api_address {
                Some(_) => derived("the distribution's file says where the API is published"),
                None => derived("the API is published on this machine only"),
            },
        );
        origins.set(Path::key("backends"), derived("each control plane has an API server"));
        origins.set(Path::key("running"), derived("what is declared runs"));
        let mut balancer = self.declaration("main", self.api_name(), &spec, origins);
        if port == 0 {
            choose_port(&mut balancer, API_PORTS.collect());
        }
        let first = self.address(MachineSpec::KIND, &format!("{}-0", NodeRole::ControlPlane.word()));
        balancer.edges = vec![
            edge(network, ForceOn::Replace, "it is on the cluster's network"),
            edge(&image, ForceOn::Nothing, "it is a container of the image"),
            Edge {
                // One that was the only control plane gives up the port and the name first.
                strength: Strength::Soft,
                condition: Condition::Exists,
                ..edge(&first, ForceOn::Nothing, "it takes over what was published by the only control plane")
            },
        ];
        self.add(balancer)
    }

    /// What kubeadm's run on a node comes after.
    pub(super) fn needs_of_bootstrap(&self, common: &Common<'_>, node: &Node) -> Vec<Edge> {
        let of = |kind: &str, index: u32| self.address(kind, &Node { role: NodeRole::ControlPlane, index }.name());
        let is_control_plane = node.role == NodeRole::ControlPlane;
        let Some(balancer) = &common.balancer else {
            if is_control_plane {
                return Vec::new();
            }
            // Without its only control plane a cluster is another one.
            return vec![edge(
                &of(BootstrapSpec::KIND, 0),
                ForceOn::Replace,
                "it joins the cluster that this one begins",
            )];
        };
        if !is_control_plane {
            return vec![edge(
                &of(BootstrapSpec::KIND, 0),
                ForceOn::Nothing,
                "it joins the cluster that this one begins",
            )];
        }
        if node.index > 0 {
            let before = of(BootstrapSpec::KIND, node.index - 1);
            return vec![edge(&before, ForceOn::Nothing, "etcd takes one member after the other")];
        }
        let others = common.control_planes.iter().skip(1);
        let others =
            others.map(|(_, machine)| edge(machine, ForceOn::Nothing, "it tells whether the cluster is there already"));
        std::iter::once(edge(balancer, ForceOn::Nothing, "machines reach the API through it")).chain(others).collect()
    }

    /// What its bootstrap made it in etcd: it leaves before the machine does.
    pub(super) fn etcd_member(
        &mut self,
        common: &Common<'_>,
        node: &Node,
        (container, address): (&str, &str),
        cluster: &Address,
        bootstrap: &Address,
        field: Origin,
    ) {
        let spec =
            EtcdMemberSpec { peer: EtcdMemberSpec::peer_at(address), alarm: EtcdMemberSpec::NO_ALARM.to_owned() };
        let mut origins = Origins::all(field);
        origins.set(Path::key("alarm"), derived("a member that is full takes nothing more"));
        origins.set(Path::key("peer"), derived("nodes keep their addresses"));
        let mut member = self.declaration(&node.name(), container.to_owned(), &spec, origins);
        member.host = Some(cluster.clone());
        member.edges = vec![edge(bootstrap, ForceOn::Replace, "the machine is a member once kubeadm has run on it")];
        // It is left through the others, so that it does before there is one only.
        let balancer = common.balancer.as_ref();
        member.edges.extend(balancer.map(|balancer| edge(balancer, ForceOn::Nothing, "the others are reached by it")));
        if node.index > 0 {
            let before = Node { role: NodeRole::ControlPlane, index: node.index - 1 };
            let before = self.address(EtcdMemberSpec::KIND, &before.name());
            member.edges.push(edge(&before, ForceOn::Nothing, "members leave one after the other"));
        }
        self.add(member);
    }
}
