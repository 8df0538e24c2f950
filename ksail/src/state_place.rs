//! Where the state is: a folder, or a store that a team shares.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ksail_compiler::format::{State, StateBackend};
use ksail_records::Backend;
use ksail_state_local::LocalBackend;
use ksail_state_object::S3Place;
use ksail_state_postgres::{PostgresObjects, PostgresPlace};
use ksail_state_remote::{RemoteBackend, RemoteOptions, Retention, SHORTEST_LEASE, Store, StoreError};

use crate::error::{Error, codes};
use crate::settings::Settings;

/// The folder of a project, for what belongs to this machine where the state is elsewhere.
const LOCAL_FOLDER: &str = ".ksail";
/// The longest lease.
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// Where the states of a project are.
pub(crate) enum StateHome {
    /// Below this folder.
    Folder(PathBuf),
    /// In this store; the folder is for what belongs to this machine.
    Shared { store: Shared, folder: PathBuf, options: Box<RemoteOptions> },
}

/// A store that a team shares.
pub(crate) enum Shared {
    /// A bucket.
    S3(S3Place),
    /// A database.
    Postgres(Box<PostgresPlace>),
}

fn store_error(error: StoreError) -> Error {
    let hint = error.hint.clone().unwrap_or_else(|| "check --state, KSAIL_STATE and spec.state".to_owned());
    Error::new(codes::BACKEND, format!("the state's place cannot be used: {}", error.message), hint)
}

impl StateHome {
    /// The place that the command line, the environment or the file names, in this order.
    pub(crate) fn of_project(settings: &Settings, spec: &State) -> Result<Self, Error> {
        match settings.state.as_deref().filter(|place| !place.is_empty()) {
            Some(chosen) => Self::parse(settings, spec, chosen, true),
            None => {
                check_backend(spec)?;
                Self::parse(settings, spec, spec.path(), false)
            }
        }
    }

    /// What is wrong with what the file says of the state's place, whatever place the command line or the environment names.
    pub(crate) fn check_spec(settings: &Settings, spec: &State) -> Result<(), Error> {
        check_backend(spec)?;
        Self::parse(settings, spec, spec.path(), false).map(drop)
    }

    /// A place by its text. `by_hand`: it is not out of the file, which holds no passwords.
    pub(crate) fn parse(settings: &Settings, spec: &State, place: &str, by_hand: bool) -> Result<Self, Error> {
        let Some((scheme, rest)) = place.split_once("://") else {
            return Ok(Self::Folder(settings.project.join(place)));
        };
        let has_password =
            rest.split('/').next().and_then(|host| host.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'));
        if has_password && !by_hand {
            return Err(Error::new(
                ksail_compiler::codes::LITERAL_SECRET,
                "spec.state.path holds a password",
                "take it out and set PGPASSWORD where ksail runs",
            ));
        }
        let store = match scheme {
            "s3" => {
                let place = S3Place::parse(place).map_err(store_error)?;
                Shared::S3(S3Place { endpoint: spec.endpoint.clone(), region: spec.region.clone(), ..place })
            }
            "postgres" | "postgresql" => {
                let place = PostgresPlace::parse(place, &|name| (settings.env)(name)).map_err(store_error)?;
                Shared::Postgres(Box::new(place))
            }
            other => {
                let message = format!("there is no backend for {other}://…");
                return Err(Error::new(
                    codes::BACKEND,
                    message,
                    "give a folder, s3://bucket/prefix or postgres://user@host/database",
                ));
            }
        };
        let folder = settings.project.join(LOCAL_FOLDER);
        let mut options = RemoteOptions::new(folder.clone());
        options.lease = duration(spec.lease.as_deref(), "lease")?.unwrap_or(options.lease);
        if options.lease < SHORTEST_LEASE || options.lease > LONGEST_LEASE {
            let message = format!("spec.state.lease is not between {SHORTEST_LEASE:?} and {LONGEST_LEASE:?}");
            return Err(Error::new(codes::BACKEND, message, "30s suits most"));
        }
        options.retention = Retention {
            count: spec.history.count.map_or(options.retention.count, |count| count as usize),
            age: duration(spec.history.age.as_deref(), "history.age")?,
        };
        Ok(Self::Shared { store, folder, options: Box::new(options) })
    }

    /// The folder of a stack on this machine.
    pub(crate) fn folder(&self, stack: &str) -> PathBuf {
        match self {
            Self::Folder(folder) | Self::Shared { folder, .. } => folder.join(stack),
        }
    }

    /// The same place, asked anew for all that it says.
    pub(crate) fn without_cache(mut self) -> Self {
        if let Self::Shared { options, .. } = &mut self {
            options.cache = false;
        }
        self
    }

    /// The backend of a stack.
    pub(crate) fn backend(&self, settings: &Settings, stack: &str) -> Result<Arc<dyn Backend>, Error> {
        let folder = self.folder(stack);
        let (store, options): (Arc<dyn Store>, _) = match self {
            Self::Folder(_) => return Ok(Arc::new(LocalBackend::new(folder))),
            Self::Shared { store: Shared::S3(place), options, .. } => {
                let store = ksail_state_object::open(place, stack, &|name| (settings.env)(name));
                (Arc::new(store.map_err(store_error)?), options)
            }
            Self::Shared { store: Shared::Postgres(place), options, .. } => {
                (Arc::new(PostgresObjects::new(place, stack)), options)
            }
        };
        Ok(Arc::new(RemoteBackend::new(store, RemoteOptions { folder, ..options.as_ref().clone() })))
    }
}

/// The kind that the file names must be that of its path.
fn check_backend(spec: &State) -> Result<(), Error> {
    let found = match spec.path().split_once("://").map(|(scheme, _)| scheme) {
        None => StateBackend::Local,
        Some("s3") => StateBackend::S3,
        Some(_) => StateBackend::Postgres,
    };
    match spec.backend {
        Some(named) if named != found => Err(Error::new(
            ksail_compiler::codes::NOT_ALLOWED_TOGETHER,
            format!("spec.state.backend is {named:?}, and spec.state.path that of {found:?}"),
            "leave spec.state.backend out: the path tells",
        )),
        _ => Ok(()),
    }
}

fn duration(text: Option<&str>, field: &str) -> Result<Option<Duration>, Error> {
    let Some(text) = text else { return Ok(None) };
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    let unclear = || {
        let message = format!("spec.state.{field} is not a duration: {text}");
        Error::new(codes::BACKEND, message, "write it like 30s, 5m or 1h30m")
    };
    parsed.map(Some).ok_or_else(unclear)
}
