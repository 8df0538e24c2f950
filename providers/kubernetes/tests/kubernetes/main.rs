//! The provider on a real API server, which `testbed/kubernetes.sh up` starts and KSAIL_TEST_KUBECONFIG names.

mod cluster;
mod conformance;
mod corpus;
mod faults;
mod front;
mod kept;
mod nodes;
mod objects;
mod served;
mod unknown_fields;
mod waits;
