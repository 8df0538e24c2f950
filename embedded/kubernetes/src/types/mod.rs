//! Values against their types: decoding, defaults, validation.

pub(crate) mod decode;
pub(crate) mod defaults;
pub(crate) mod names;
pub(crate) mod protobuf;
pub(crate) mod rules;
pub(crate) mod validate;
