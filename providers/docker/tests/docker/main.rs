//! The provider on a real Docker Engine, which `testbed/docker.sh up` starts and KSAIL_TEST_DOCKER_HOST names.

mod conformance;
mod engine;
mod images;
mod marks;
mod registries;
mod things;
mod unreachable;
