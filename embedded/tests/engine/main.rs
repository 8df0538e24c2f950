//! The embedded engine as clients see it: bollard, plain HTTP, the `docker` client and `skopeo`.

mod harness;
mod interface;
mod life;
mod private_ca;
mod pull_through;
mod real_clients;
mod registry;
