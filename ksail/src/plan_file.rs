//! Plan files: all that an apply needs, without a secret in it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ksail_plan::{PLAN_FORMAT, Plan};
use serde::{Deserialize, Serialize};

use crate::error::{Error, codes};

/// What makes a plan file recognisable.
const KIND: &str = "ksail plan";

#[derive(Serialize)]
struct Written<'a> {
    kind: &'static str,
    format: u32,
    plan: &'a Plan,
}

#[derive(Deserialize)]
struct Head {
    kind: String,
    format: u32,
}

#[derive(Deserialize)]
struct Whole {
    plan: Plan,
}

/// Writes a plan file with mode 0600, replacing what was there as a whole.
pub fn write_plan(plan: &Plan, path: &Path) -> Result<(), Error> {
    let io = |doing| move |source| Error::Io { doing, path: path.to_owned(), source };
    let text = serde_json::to_vec(&Written { kind: KIND, format: PLAN_FORMAT, plan })
        .map_err(|error| io("write")(std::io::Error::other(error)))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io("write")(error)
    })
}

/// Reads a plan file. One of a newer format, or that was changed by hand, is an error.
pub fn read_plan(path: &Path) -> Result<Plan, Error> {
    let bytes = fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            let message = format!("there is no plan file {}", path.display());
            Error::new(codes::PLAN_FILE, message, "`ksail plan --out FILE` writes one")
        }
        _ => Error::Io { doing: "read", path: path.to_owned(), source },
    })?;
    let bad = |why: String| {
        let message = format!("{} is not a plan of ksail: {why}", path.display());
        Error::new(codes::PLAN_FILE, message, "make one with `ksail plan --out FILE`")
    };
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if head.kind != KIND {
        return Err(bad(format!("it says that it is `{}`", head.kind)));
    }
    if head.format > PLAN_FORMAT {
        let message = format!("{} has format {}; this ksail reads up to {PLAN_FORMAT}", path.display(), head.format);
        return Err(Error::new(codes::PLAN_FILE, message, "use the ksail that made it"));
    }
    let whole: Whole = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if ksail_plan::digest_of(&whole.plan) != whole.plan.digest {
        return Err(bad("its content does not fit its digest: it was changed after it was made".to_owned()));
    }
    Ok(whole.plan)
}
