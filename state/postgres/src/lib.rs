//! The objects of a state in a table of PostgreSQL: one row an object, a version that never comes back, conditional
//! writes by single statements.

mod connection;
mod place;
mod table;

pub use place::PostgresPlace;
pub use table::{PostgresObjects, TABLE_DDL};
