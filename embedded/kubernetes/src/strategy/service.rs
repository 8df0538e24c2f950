//! Addresses and ports of Services.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::allocation::is_node_port;
use crate::api::Api;
use crate::status::{Cause, Status};
use crate::write::Place;

impl Api {
    /// Gives a Service what it asks for: an address, ports of nodes. What it had stays.
    pub(crate) fn allocate_service(
        &self,
        place: &Place,
        before: Option<&Value>,
        service: &mut Value,
    ) -> Result<(), Status> {
        let name = place.key();
        let invalid = |cause: Cause| Status::invalid("", "Service", &place.name, &[cause]);
        let of = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        let old = before.map_or(Value::Null, |before| before["spec"].clone());
        let spec = &mut service["spec"];
        if of == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
                remove(spec, field);
            }
            return Ok(());
        }
        if spec["clusterIP"].as_str().unwrap_or_default().is_empty() {
            let list = spec["clusterIPs"][0].as_str().unwrap_or_default().to_owned();
            let kept = old["clusterIP"].as_str().unwrap_or_default().to_owned();
            let address = [list, kept].into_iter().find(|address| !address.is_empty());
            spec["clusterIP"] = match address {
                Some(address) => address.into(),
                None => {
                    let free = self.allocation.address(&name);
                    let free = free.ok_or_else(|| Status::internal("no address of Services is free"))?;
                    free.to_string().into()
                }
            };
        } else if let Some(address) = spec["clusterIP"].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok())
            && self.allocation.owner_of_address(address).is_some_and(|owner| owner != name)
        {
            let detail = "failed to allocate IP: provided IP is already allocated";
            let value = json!([spec["clusterIP"]]);
            return Err(invalid(Cause::invalid("spec.clusterIPs", &value, detail)));
        }
        if spec["clusterIPs"].as_array().is_none_or(|list| list.first() != Some(&spec["clusterIP"]))
            && old["clusterIP"] != spec["clusterIP"]
            || spec["clusterIPs"].is_null()
        {
            spec["clusterIPs"] = json!([spec["clusterIP"]]);
        }
        if spec["ipFamilies"].is_null() {
            spec["ipFamilies"] = json!(["IPv4"]);
        }
        if spec["ipFamilyPolicy"].is_null() {
            spec["ipFamilyPolicy"] = "SingleStack".into();
        }
        let wants_ports = of == "NodePort" || (of == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
        if of != "LoadBalancer" {
            remove(spec, "allocateLoadBalancerNodePorts");
        }
        if of == "ClusterIP" {
            for field in ["externalTrafficPolicy", "healthCheckNodePort"] {
                remove(spec, field);
            }
        } else if of == "LoadBalancer"
            && spec["externalTrafficPolicy"] == "Local"
            && spec["healthCheckNodePort"].is_null()
        {
            spec["healthCheckNodePort"] = match old["healthCheckNodePort"].as_u64() {
                Some(port) => port.into(),
                None => self.port(&name)?.into(),
            };
        }
        let had = old["ports"].as_array().cloned().unwrap_or_default();
        for (index, port) in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            if !wants_ports {
                if of == "ClusterIP" && had.iter().any(|had| had["nodePort"] == port["nodePort"]) {
                    remove(port, "nodePort");
                }
                continue;
            }
            let asked = port["nodePort"].as_u64().unwrap_or_default();
            if asked == 0 {
                let same = had.iter().find(|had| had["port"] == port["port"] && had["protocol"] == port["protocol"]);
                port["nodePort"] = match same.and_then(|same| same["nodePort"].as_u64()) {
                    Some(port) => port.into(),
                    None => self.port(&name)?.into(),
                };
                continue;
            }
            let field = format!("spec.ports[{index}].nodePort");
            if !is_node_port(asked) {
                let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                return Err(invalid(Cause::invalid(field, &asked.into(), detail)));
            }
            let taken = u16::try_from(asked).ok().and_then(|asked| self.allocation.owner_of_port(asked));
            if taken.is_some_and(|owner| owner != name) {
                return Err(invalid(Cause::invalid(field, &asked.into(), "provided port is already allocated")));
            }
        }
        Ok(())
    }

    fn port(&self, name: &crate::store::Name) -> Result<u16, Status> {
        self.allocation.port(name).ok_or_else(|| Status::internal("no port of nodes is free"))
    }
}

/// A Service that does not say its address keeps the one that it has.
pub(super) fn keep_allocated(before: &Value, service: &mut Value) {
    let external = |of: &Value| of["spec"]["type"] == "ExternalName";
    if !external(before) && !external(service) {
        for field in ["clusterIP", "clusterIPs"] {
            if service["spec"][field].as_str().is_none_or(str::is_empty)
                && service["spec"][field].as_array().is_none_or(Vec::is_empty)
                && !before["spec"][field].is_null()
            {
                service["spec"][field] = before["spec"][field].clone();
            }
        }
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(field);
    }
}
