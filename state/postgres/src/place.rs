//! `postgres://user@host/database?prefix=team&sslmode=require`.

use std::path::PathBuf;
use std::str::FromStr as _;

use ksail_state_remote::{StoreError, StoreErrorKind};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Where in PostgreSQL.
#[derive(Clone)]
pub struct PostgresPlace {
    pub(crate) config: Config,
    /// What the stacks of one project have in common, so that projects can share a table; may be empty.
    pub(crate) prefix: String,
    /// Certificates in PEM that are trusted instead of the machine's.
    pub(crate) roots: Option<PathBuf>,
    shown: String,
}

impl std::fmt::Debug for PostgresPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

fn unfit(why: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unfit, why).hint("write it like postgres://user@host/database?prefix=team")
}

impl PostgresPlace {
    /// Reads an address. `env` gives `PGPASSWORD`, and what the address leaves out: `PGHOST`, `PGUSER`,
    /// `PGDATABASE`, `PGSSLMODE`, `PGSSLROOTCERT`. Nothing of a password is ever told.
    pub fn parse(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StoreError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut prefix, mut roots, mut rest) = (String::new(), env("PGSSLROOTCERT"), Vec::new());
        let mut has_mode = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("prefix", value)) => prefix = value.trim_matches('/').to_owned(),
                Some(("sslrootcert", value)) => roots = Some(value.to_owned()),
                Some((name, _)) => {
                    has_mode |= name == "sslmode";
                    rest.push(pair);
                }
                None => return Err(unfit("a parameter of it has no value")),
            }
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !prefix.chars().all(is_part) || prefix.contains("//") {
            return Err(unfit("a prefix is made of letters, digits and -_., in parts divided by /"));
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        // The parser's message may quote what it was given.
        let mut config =
            Config::from_str(&format!("{address}{query}")).map_err(|_| unfit("it is not an address of PostgreSQL"))?;
        if config.get_hosts().is_empty() {
            config.host(env("PGHOST").unwrap_or_else(|| "localhost".to_owned()));
        }
        if config.get_user().is_none()
            && let Some(user) = env("PGUSER").or_else(|| env("USER"))
        {
            config.user(user);
        }
        if config.get_password().is_none()
            && let Some(password) = env("PGPASSWORD")
        {
            config.password(password);
        }
        if config.get_dbname().is_none()
            && let Some(database) = env("PGDATABASE")
        {
            config.dbname(database);
        }
        if !has_mode {
            match env("PGSSLMODE").as_deref() {
                Some("disable") => drop(config.ssl_mode(SslMode::Disable)),
                Some("prefer" | "allow") => drop(config.ssl_mode(SslMode::Prefer)),
                Some(_) => drop(config.ssl_mode(SslMode::Require)),
                // A connection to somewhere else carries a password and a state: not without TLS, unless it is asked for.
                None if !is_local(&config) => drop(config.ssl_mode(SslMode::Require)),
                None => {}
            }
        }
        if config.get_application_name().is_none() {
            config.application_name("ksail");
        }
        let shown = shown(&config, &prefix);
        Ok(Self { config, prefix, roots: roots.map(PathBuf::from), shown })
    }

    /// What the rows of a stack have in common.
    pub(crate) fn stack(&self, stack: &str) -> String {
        if self.prefix.is_empty() { stack.to_owned() } else { format!("{}/{stack}", self.prefix) }
    }

    /// The address of a stack without the password.
    pub(crate) fn url(&self, stack: &str) -> String {
        format!("{}#{}", self.shown, self.stack(stack))
    }
}

fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => name == "localhost" || name == "::1" || name.starts_with("127."),
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

fn shown(config: &Config, prefix: &str) -> String {
    let host = config.get_hosts().first().map_or_else(String::new, |host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().map(|port| format!(":{port}")).unwrap_or_default();
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    let prefix = if prefix.is_empty() { String::new() } else { format!("?prefix={prefix}") };
    format!("postgres://{user}{host}{port}/{database}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, env: &[(&str, &str)]) -> Result<PostgresPlace, StoreError> {
        let found = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        PostgresPlace::parse(url, &found)
    }

    #[test]
    fn no_password_is_shown() {
        let place = parse("postgres://ann:hunter2@db.example.com:5433/ops?prefix=team/eu", &[]).unwrap();
        assert_eq!(place.url("dev"), "postgres://ann@db.example.com:5433/ops?prefix=team/eu#team/eu/dev");
        assert!(!format!("{place:?}").contains("hunter2"));
        assert_eq!(place.stack("dev"), "team/eu/dev");
        for wrong in
            ["postgres://ann:hunter2@host:x/ops", "postgres://ann:hunter2@h/o?nonsense=1", "postgres://h/o?prefix=a b"]
        {
            let error = parse(wrong, &[]).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_environment_gives_what_is_left_out() {
        let env = [("PGPASSWORD", "p"), ("PGUSER", "bob"), ("PGDATABASE", "ops")];
        let place = parse("postgres://db.example.com", &env).unwrap();
        assert_eq!(place.url("dev"), "postgres://bob@db.example.com:5432/ops#dev");
        assert_eq!(place.config.get_password(), Some(&b"p"[..]));
        assert_eq!(place.config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn only_this_machine_is_reached_without_tls_unless_it_is_asked_for() {
        assert_eq!(parse("postgres://127.0.0.1/x", &[]).unwrap().config.get_ssl_mode(), SslMode::Prefer);
        let asked = parse("postgres://db.example.com/x?sslmode=disable", &[]).unwrap();
        assert_eq!(asked.config.get_ssl_mode(), SslMode::Disable);
        let asked = parse("postgres://db.example.com/x", &[("PGSSLMODE", "disable")]).unwrap();
        assert_eq!(asked.config.get_ssl_mode(), SslMode::Disable);
    }
}
