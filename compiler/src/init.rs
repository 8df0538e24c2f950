//! The files of a new project.

use crate::format::{DEFAULT_NAME, Provider};

/// What a new project shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// The cluster's name; [`name_from_folder`] makes one.
    pub name: String,
    /// Where it runs: [`Provider::Embedded`] or [`Provider::Docker`].
    pub provider: Provider,
    /// Whether a local registry is made.
    pub local_registry: bool,
    /// Hosts that get a pull-through mirror.
    pub mirrors: Vec<String>,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            provider: Provider::Embedded,
            local_registry: true,
            mirrors: vec!["docker.io".to_owned(), "ghcr.io".to_owned()],
        }
    }
}

/// The longest name that is made from a folder's.
const LONGEST_NAME: usize = 40;

/// A name of a cluster made from that of a folder: lower case, other characters as `-`, beginning with a letter. A folder whose
/// name has nothing of use gives the format's default.
pub fn name_from_folder(folder: &str) -> String {
    let mut name = String::new();
    for c in folder.chars().flat_map(char::to_lowercase) {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        let fits = if name.is_empty() { c.is_ascii_alphabetic() } else { !(c == '-' && name.ends_with('-')) };
        if fits && name.len() < LONGEST_NAME {
            name.push(c);
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { DEFAULT_NAME.to_owned() } else { name.to_owned() }
}

/// The files of a new project, as paths relative to its folder with their texts. They validate.
pub fn init_files(options: &InitOptions) -> Vec<(String, String)> {
    let mut text = format!(
        "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: {}\nspec:\n  cluster:\n    # {}\n    provider: {}\n    \
         # No cluster yet: network, registries, mirrors and images.\n    distribution: None\n",
        options.name,
        match options.provider {
            Provider::Embedded => "The engine that ksail brings along; `Docker` takes the Docker Engine.",
            _ => "`Embedded` needs nothing installed.",
        },
        options.provider,
    );
    if options.local_registry {
        text.push_str("    # Push here: a free port is chosen when planning, and kept. `registry: localhost:5050` fixes it.\n    localRegistry: {}\n");
    }
    if !options.mirrors.is_empty() {
        text.push_str("  # Registries that answer for these hosts and keep what they pulled.\n  mirrors:\n");
        for host in &options.mirrors {
            // In quotes, because a host may look like something else to YAML; the text was checked by nobody.
            text.push_str(&format!("    - host: {}\n", serde_json::Value::String(host.clone())));
        }
    }
    vec![("ksail.yaml".to_owned(), text)]
}

/// What a project keeps out of its repository, as lines of `.gitignore`: the state holds what is true of one machine.
pub const fn gitignore_lines() -> &'static [&'static str] {
    &[".ksail/"]
}

#[cfg(test)]
mod tests {
    use super::name_from_folder;

    #[test]
    fn names_are_made_from_folders() {
        let check = |folder: &str, wanted: &str| assert_eq!(name_from_folder(folder), wanted, "{folder}");
        check("dev", "dev");
        check("My Project (2)", "my-project-2");
        check("42-things", "things");
        check("...", "local");
        check("", "local");
        check("Ünï", "n");
    }
}
