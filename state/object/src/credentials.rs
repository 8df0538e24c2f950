//! The files of the AWS tools: `~/.aws/credentials` and `~/.aws/config`, as far as they hold keys and a region.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Looks an environment variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a profile says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile(BTreeMap<String, String>);

impl Profile {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The profile that `AWS_PROFILE` names, or `default`, out of both files. Files that are not there say nothing.
    pub(crate) fn read(env: Lookup<'_>) -> Self {
        let named = |variable: &str, file: &str| {
            let home = || Some(PathBuf::from(env("HOME")?).join(".aws").join(file));
            env(variable).filter(|path| !path.is_empty()).map(PathBuf::from).or_else(home)
        };
        let profile = env("AWS_PROFILE").filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
        let mut found = Self::default();
        for (variable, file) in [("AWS_CONFIG_FILE", "config"), ("AWS_SHARED_CREDENTIALS_FILE", "credentials")] {
            let text = named(variable, file).and_then(|path| std::fs::read_to_string(path).ok());
            found.0.extend(section(&text.unwrap_or_default(), &profile));
        }
        found
    }
}

fn section(text: &str, profile: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            inside = name == profile || name.strip_prefix("profile ").is_some_and(|name| name.trim() == profile);
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            found.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_profile_is_read_out_of_both_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(".aws").join(name), text).unwrap();
        write("config", "[default]\nregion = us-east-1\n[profile team]\nregion=eu-central-1\n# x = y\n");
        write(
            "credentials",
            "[team]\naws_access_key_id = A\naws_secret_access_key = B\n[other]\naws_access_key_id = C\n",
        );
        let env = |name: &str| match name {
            "HOME" => Some(folder.path().display().to_string()),
            "AWS_PROFILE" => Some("team".to_owned()),
            _ => None,
        };
        let profile = Profile::read(&env);
        assert_eq!(profile.get("region"), Some("eu-central-1"));
        assert_eq!(profile.get("aws_access_key_id"), Some("A"));
        assert_eq!(profile.get("aws_secret_access_key"), Some("B"));
        assert_eq!(Profile::read(&|_| None), Profile::default());
    }
}
