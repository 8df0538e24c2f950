//! Patches, and who manages which field.

pub(crate) mod fields;
pub(crate) mod json;
#[cfg(test)]
mod laws;
pub(crate) mod managers;
pub(crate) mod strategic;
pub(crate) mod typed;
