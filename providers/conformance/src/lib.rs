//! What providers and the engine are tested with: a simulated outside with a provider on it ([`world`]), a
//! decorator that injects faults into any provider ([`faults`]), and the suite that checks the provider contract
//! ([`suite`]). For tests and benchmarks only; no product crate depends on it.

pub mod faults;
mod method;
pub mod suite;
pub mod world;

pub use method::Method;
