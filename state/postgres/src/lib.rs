//! The objects of a state in a table of PostgreSQL: one row an object, a version that never comes back, conditional
//! writes by single statements.

mod connection;
mod errors;
mod place;
mod schema;
mod table;

pub use place::PostgresPlace;
pub use schema::TABLE_DDL;
pub use table::PostgresObjects;
