//! The objects of a state in S3-compatible stores, by conditional writes (`If-None-Match`, `If-Match`); and in any other
//! store that the crate `object_store` knows.

mod credentials;
mod http;
mod object;
mod s3;

pub use object::ObjectStoreObjects;
pub use s3::{S3Place, open};
