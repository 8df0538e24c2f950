//! The files of a new project.

use crate::format::{DEFAULT_NAME, Distribution, MirrorEntry, Provider};

/// What a new project shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// The cluster's name; [`name_from_folder`] makes one.
    pub name: String,
    /// Where it runs.
    pub provider: Provider,
    /// What makes the cluster.
    pub distribution: Distribution,
    /// Whether a local registry is made.
    pub local_registry: bool,
    /// What gets a pull-through mirror.
    pub mirrors: Vec<MirrorEntry>,
    /// Further fields: their paths, and their values as YAML reads them. Whether they are fields is not judged here.
    pub fields: Vec<(String, String)>,
}

impl Default for InitOptions {
    fn default() -> Self {
        let mirror = |host: &str| MirrorEntry { host: host.to_owned(), ..MirrorEntry::default() };
        Self {
            name: DEFAULT_NAME.to_owned(),
            provider: Provider::Embedded,
            distribution: Distribution::None,
            local_registry: true,
            mirrors: ["docker.io", "ghcr.io"].map(mirror).to_vec(),
            fields: Vec::new(),
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

/// The files of a new project, as paths relative to its folder with their texts. Without further fields, and with a name of
/// the required form, they validate.
pub fn init_files(options: &InitOptions) -> Vec<(String, String)> {
    let mut text = format!(
        "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: {}\nspec:\n  cluster:\n    # {}\n    provider: {}\n",
        scalar(&options.name),
        match options.provider {
            Provider::Embedded => "The engine that ksail brings along; `Docker` takes the Docker Engine.",
            _ => "`Embedded` needs nothing installed.",
        },
        options.provider,
    );
    if options.distribution == Distribution::None {
        text.push_str("    # No cluster yet: network, registries, mirrors and images.\n");
    }
    text.push_str(&format!("    distribution: {}\n", options.distribution));
    let fields: Vec<(Vec<&str>, &str)> =
        options.fields.iter().map(|(path, value)| (path.split('.').collect(), value.as_str())).collect();
    let below = |first: &[&str]| -> Vec<(Vec<&str>, &str)> {
        let within = fields.iter().filter(|(path, _)| path.starts_with(first) && path.len() > first.len());
        within.map(|(path, value)| (path[first.len()..].to_vec(), *value)).collect()
    };
    let cluster = below(&["spec", "cluster"]);
    if options.local_registry && !cluster.iter().any(|(path, _)| path[0] == "localRegistry") {
        text.push_str("    # Push here: a free port is chosen when planning, and kept. `registry: localhost:5050` fixes it.\n    localRegistry: {}\n");
    }
    write_fields(&mut text, &cluster, 2);
    if !options.mirrors.is_empty() {
        text.push_str("  # Registries that answer for these hosts and keep what they pulled.\n  mirrors:\n");
        for mirror in &options.mirrors {
            text.push_str(&format!("    - host: {}\n", quoted(&mirror.host)));
            let rest = [("upstream", &mirror.upstream), ("username", &mirror.username), ("password", &mirror.password)];
            for (key, value) in rest {
                if let Some(value) = value {
                    text.push_str(&format!("      {key}: {}\n", quoted(value)));
                }
            }
        }
    }
    let mut others = below(&["spec"]);
    others.retain(|(path, _)| path[0] != "cluster");
    write_fields(&mut text, &others, 1);
    vec![("ksail.yaml".to_owned(), text)]
}

/// Writes fields, those with the same first key together.
fn write_fields(text: &mut String, fields: &[(Vec<&str>, &str)], depth: usize) {
    let indent = "  ".repeat(depth);
    let mut written: Vec<&str> = Vec::new();
    for (path, value) in fields {
        let key = path[0];
        if written.contains(&key) {
            continue;
        }
        written.push(key);
        if path.len() == 1 {
            text.push_str(&format!("{indent}{key}: {value}\n"));
            continue;
        }
        text.push_str(&format!("{indent}{key}:\n"));
        let within = fields.iter().filter(|(other, _)| other[0] == key && other.len() > 1);
        let within: Vec<_> = within.map(|(other, value)| (other[1..].to_vec(), *value)).collect();
        write_fields(text, &within, depth + 1);
    }
}

/// A name as it is, if it can be nothing but a text.
fn scalar(text: &str) -> String {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !matches!(text, "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// In quotes, because a text may look like something else to YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// What a project keeps out of its repository, as lines of `.gitignore`: the state holds what is true of one machine.
pub const fn gitignore_lines() -> &'static [&'static str] {
    &[".ksail/"]
}

#[cfg(test)]
mod tests {
    use super::{InitOptions, init_files, name_from_folder};
    use crate::format::{Distribution, Provider};

    #[test]
    fn further_fields_stand_in_their_sections() {
        let fields = [
            ("spec.cluster.connection.kubeconfig", "\"~/.kube/dev\""),
            ("spec.cluster.cni", "Cilium"),
            ("spec.cluster.connection.context", "\"kind-dev\""),
            ("spec.cluster.localRegistry.registry", "\"localhost:5050\""),
            ("spec.workload.sourceDirectory", "\"k8s\""),
        ];
        let options = InitOptions {
            name: "dev".to_owned(),
            provider: Provider::Docker,
            distribution: Distribution::Vanilla,
            mirrors: Vec::new(),
            fields: fields.map(|(path, value)| (path.to_owned(), value.to_owned())).to_vec(),
            ..InitOptions::default()
        };
        let wanted = "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  cluster:\n    \
                      # `Embedded` needs nothing installed.\n    provider: Docker\n    distribution: Vanilla\n    connection:\n      \
                      kubeconfig: \"~/.kube/dev\"\n      context: \"kind-dev\"\n    cni: Cilium\n    localRegistry:\n      \
                      registry: \"localhost:5050\"\n  workload:\n    sourceDirectory: \"k8s\"\n";
        assert_eq!(init_files(&options)[0].1, wanted);
    }

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
