//! The table as the server knows it.

/// What makes the table. It is made at the first use, where that is allowed.
pub const TABLE_DDL: &str = "\
CREATE TABLE IF NOT EXISTS ksail_state (
  stack text COLLATE \"C\" NOT NULL,
  key text COLLATE \"C\" NOT NULL,
  version bigserial NOT NULL,
  modified timestamptz NOT NULL DEFAULT clock_timestamp(),
  data bytea NOT NULL,
  PRIMARY KEY (stack, key)
);";

pub(crate) fn ddl_hint() -> String {
    format!(
        "let somebody who may make tables run this in the database, and give you the rights that the guide names:\n{TABLE_DDL}"
    )
}
