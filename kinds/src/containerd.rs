//! What is changed in the configuration of a machine's containerd, as kind takes it.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Patches of `/etc/containerd/config.toml`: merge patches (RFC 7386) as texts of TOML, then JSON patches (RFC 6902) as texts of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerdPatches {
    /// Merge patches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merge: Vec<String>,
    /// Lists of operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<String>,
}

impl ContainerdPatches {
    /// Whether nothing is changed.
    pub const fn is_empty(&self) -> bool {
        self.merge.is_empty() && self.json.is_empty()
    }

    /// Whether all of them can be read.
    ///
    /// # Errors
    /// Which cannot, and why.
    pub fn check(&self) -> Result<(), String> {
        self.read().map(drop)
    }

    /// A configuration, patched. Its comments and the order of its keys are lost.
    ///
    /// # Errors
    /// What cannot be read, or does not fit.
    pub fn apply(&self, config: &str) -> Result<String, String> {
        let (merges, operations) = self.read()?;
        let mut config: Json =
            toml::from_str(config).map_err(|error| format!("containerd's configuration cannot be read: {error}"))?;
        for patch in &merges {
            json_patch::merge(&mut config, patch);
        }
        for patch in &operations {
            json_patch::patch(&mut config, patch)
                .map_err(|error| format!("a JSON patch of containerd's configuration cannot be applied: {error}"))?;
        }
        toml::to_string(&config)
            .map_err(|error| format!("what the patches make of containerd's configuration is no TOML: {error}"))
    }

    fn read(&self) -> Result<(Vec<Json>, Vec<json_patch::Patch>), String> {
        let merge = |text: &String| {
            toml::from_str(text).map_err(|error| format!("a patch of containerd's configuration is no TOML: {error}"))
        };
        let operations = |text: &String| {
            serde_json::from_str(text)
                .map_err(|error| format!("a JSON patch of containerd's configuration cannot be used: {error}"))
        };
        Ok((
            self.merge.iter().map(merge).collect::<Result<_, _>>()?,
            self.json.iter().map(operations).collect::<Result<_, _>>()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/a\"\n[debug]\nlevel = \"info\"\n";

    fn patched(merge: &[&str], json: &[&str]) -> Result<Json, String> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let text = ContainerdPatches { merge: texts(merge), json: texts(json) }.apply(CONFIG)?;
        Ok(toml::from_str(&text).unwrap())
    }

    #[test]
    fn patches_change_what_they_name_and_nothing_else() {
        let merge = "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
        let json = r#"[{"op": "replace", "path": "/debug/level", "value": "debug"}]"#;
        let config = patched(&[merge], &[json]).unwrap();
        let registry = &config["plugins"]["io.containerd.cri.v1.images"]["registry"];
        assert_eq!(registry["config_path"], "/etc/containerd/certs.d");
        assert_eq!((&config["version"], &config["debug"]["level"]), (&Json::from(3), &Json::from("debug")));
    }

    #[test]
    fn what_cannot_be_read_or_does_not_fit_is_said() {
        assert!(patched(&["a = "], &[]).unwrap_err().contains("is no TOML"));
        assert!(patched(&[], &["{}"]).unwrap_err().contains("cannot be used"));
        let gone = r#"[{"op": "remove", "path": "/nothing"}]"#;
        assert!(patched(&[], &[gone]).unwrap_err().contains("cannot be applied"));
    }
}
