//! Secrets by reference, the vault, and keyed fingerprints.
