//! Addresses and ports of Services, which no two may have.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::store::{Name, Store};

/// The addresses of Services: 10.96.0.0/16, without the first ones, which have fixed uses.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 96, 0, 20]);
const LAST_ADDRESS: u32 = u32::from_be_bytes([10, 96, 255, 254]);
/// The ports of nodes that Services may take.
const PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// The addresses of load balancers: 192.0.2.0/24 and up is for documentation; 198.18.0.0/15 is for benchmarks, and leads nowhere.
const FIRST_BALANCER: u32 = u32::from_be_bytes([198, 18, 0, 1]);

/// What is taken.
#[derive(Debug, Default)]
pub(crate) struct Allocation(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    addresses: HashMap<u32, Name>,
    ports: HashMap<u16, Name>,
    balancers: HashMap<u32, Name>,
}

impl Taken {
    fn release(&mut self, name: &Name) {
        self.addresses.retain(|_, of| of != name);
        self.ports.retain(|_, of| of != name);
        self.balancers.retain(|_, of| of != name);
    }

    fn take(&mut self, name: &Name, service: &Value) {
        let address = |value: &Value| value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok()).map(u32::from);
        if let Some(address) = address(&service["spec"]["clusterIP"]) {
            self.addresses.insert(address, name.clone());
        }
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            if let Some(port) = port["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok()) {
                self.ports.insert(port, name.clone());
            }
        }
        for ingress in service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
            if let Some(address) = address(&ingress["ip"]) {
                self.balancers.insert(address, name.clone());
            }
        }
    }
}

impl Allocation {
    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the Services of a store have.
    pub(crate) fn load(&self, store: &Store) {
        let mut taken = self.taken();
        for (name, entry) in store.list("/services", None).1 {
            taken.take(&name, &entry.object());
        }
    }

    /// Takes what a Service has, and releases what it had; `None` if it is gone.
    pub(crate) fn record(&self, name: &Name, service: Option<&Value>) {
        let mut taken = self.taken();
        taken.release(name);
        if let Some(service) = service {
            taken.take(name, service);
        }
    }

    /// Who has an address.
    pub(crate) fn owner_of_address(&self, address: Ipv4Addr) -> Option<Name> {
        self.taken().addresses.get(&u32::from(address)).cloned()
    }

    /// Who has a port.
    pub(crate) fn owner_of_port(&self, port: u16) -> Option<Name> {
        self.taken().ports.get(&port).cloned()
    }

    /// A free address.
    pub(crate) fn address(&self, name: &Name) -> Option<Ipv4Addr> {
        let mut taken = self.taken();
        let span = LAST_ADDRESS - FIRST_ADDRESS + 1;
        let from = fastrand::u32(..span);
        let free =
            (0..span).map(|step| FIRST_ADDRESS + (from + step) % span).find(|at| !taken.addresses.contains_key(at))?;
        taken.addresses.insert(free, name.clone());
        Some(free.into())
    }

    /// A free port of nodes.
    pub(crate) fn port(&self, name: &Name) -> Option<u16> {
        let mut taken = self.taken();
        let span = PORTS.end() - PORTS.start() + 1;
        let from = fastrand::u16(..span);
        let free =
            (0..span).map(|step| PORTS.start() + (from + step) % span).find(|port| !taken.ports.contains_key(port))?;
        taken.ports.insert(free, name.clone());
        Some(free)
    }

    /// A free address of load balancers.
    pub(crate) fn balancer(&self, name: &Name) -> Ipv4Addr {
        let mut taken = self.taken();
        let mut at = FIRST_BALANCER;
        while taken.balancers.contains_key(&at) {
            at += 1;
        }
        taken.balancers.insert(at, name.clone());
        at.into()
    }
}

/// Whether a port is one that nodes give to Services.
pub(crate) fn is_node_port(port: u64) -> bool {
    u16::try_from(port).is_ok_and(|port| PORTS.contains(&port))
}
