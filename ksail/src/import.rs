//! Import: something that exists becomes ours, by a reviewed plan.

use ksail_kinds::{ClusterSpec, MachineSpec, Spec as _};
use ksail_model::{Address, RecordKey, Selector};
use ksail_records::Snapshot;

use crate::error::{Error, codes};
use crate::kind_cluster::is_in_part;
use crate::plan::{PlanOptions, Planned, import};
use crate::platform::Platform;

impl Platform {
    /// Plans to adopt what exists outside under `id` as the declared resource `address` (the cluster may be left out).
    pub async fn plan_import(&self, address: &str, id: &str, mut options: PlanOptions) -> Result<Planned, Error> {
        let stack = self.stack()?;
        let address = self.find_declared(&stack.graph, address)?;
        let stored = stack.place.read(&stack.name, stack.environment.as_deref()).await?;
        // A cluster on machines is imported with all that it is made of, and may be in part.
        let of_parts = address.kind() == ClusterSpec::KIND
            && stack.graph.declarations.keys().any(|address| address.kind() == MachineSpec::KIND);
        if let Some(state) = &stored.state
            && !(of_parts && is_in_part(&stack.graph, state.snapshot()))
        {
            refuse_recorded(state.snapshot(), &address, id)?;
        }
        if !of_parts {
            options.targets.push(Selector::parse(address.as_str()).map_err(bad_address)?);
        }
        options.imports.push(import(address, id));
        self.plan_stack(stack, &options, None).await
    }

    /// The declared address that a person names.
    fn find_declared(&self, graph: &ksail_model::DeclaredGraph, text: &str) -> Result<Address, Error> {
        let named = |address: &&Address| address.as_str() == text || address.without_cluster() == text;
        graph.declarations.keys().find(named).cloned().ok_or_else(|| {
            let known: Vec<&str> = graph.declarations.keys().map(Address::without_cluster).collect();
            let message = format!("{text} is not declared in {}", self.files.base.display());
            Error::new(codes::NOT_FOUND, message, format!("declared are {}", known.join(", ")))
        })
    }
}

/// Refuses to import what has a record: the record says already what the address stands for. One that a killed import wrote is
/// what the same command goes on with.
fn refuse_recorded(snapshot: &Snapshot, address: &Address, id: &str) -> Result<(), Error> {
    let Some(record) = snapshot.records.get(&RecordKey::current(address.clone())) else { return Ok(()) };
    if snapshot.operation.as_ref().is_some_and(|open| open.id == record.operation) {
        return Ok(());
    }
    let name = &record.declaration.identity.name;
    let known = record.id.as_ref().filter(|known| *known != name).map(|known| format!(" ({known})"));
    let message = format!(
        "{id} cannot be imported as {address}: it has a record already, of {name}{}",
        known.unwrap_or_default()
    );
    let hint = format!(
        "to take {id} instead, let the record go first: `ksail state rm {address}`, which leaves {name} as it is"
    );
    Err(Error::new(codes::BAD_MOVE, message, hint))
}

/// An address that cannot be read.
pub(crate) fn bad_address(error: ksail_model::AddressError) -> Error {
    Error::new(codes::USAGE, error.to_string(), "an address reads cluster/kind/name; `ksail state list` names them")
}
