//! The provider on a real Docker Engine, which `testbed/docker.sh up` starts and KSAIL_TEST_DOCKER_HOST names, the same on a real Podman
//! (`testbed/podman.sh up`, KSAIL_TEST_PODMAN_HOST), and on the embedded engine in this process.

mod conformance;
mod credentials;
mod engine;
mod images;
mod marks;
mod push;
mod registries;
mod things;
mod unreachable;
