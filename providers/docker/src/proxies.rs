//! The proxies of a machine, as variables of its container.

use std::collections::BTreeMap;

use ksail_kinds::MachineSpec;
use ksail_model::{Path, Value};
use ksail_provider::SecretText;

use crate::labels;
use crate::observed::Observed;

/// Where a variable stands in a machine's spec.
fn path(name: &str) -> Path {
    Path::key("proxy").child_key(name)
}

/// The proxies with the texts of secrets. One whose text is not given stays a secret, and is left out of what is made.
pub(crate) fn with_texts(
    proxies: &BTreeMap<String, Value>,
    secrets: &BTreeMap<Path, SecretText>,
) -> BTreeMap<String, Value> {
    let text = |(name, value): (&String, &Value)| {
        let text = secrets.get(&path(name)).map(|text| Value::from(text.expose()));
        (name.clone(), text.unwrap_or_else(|| value.clone()))
    };
    proxies.iter().map(text).collect()
}

/// The variables of a container, each in capitals and not, for programs differ in what they read.
pub(crate) fn variables(proxies: &BTreeMap<String, Value>) -> Vec<String> {
    let texts = proxies.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    texts.flat_map(|(name, text)| [format!("{name}={text}"), format!("{}={text}", name.to_lowercase())]).collect()
}

impl Observed {
    /// The proxies that a container was made with. Of a secret the label tells which it is, and the text is not read.
    pub(crate) fn proxies(&self) -> BTreeMap<String, Value> {
        let of = |name: &str| {
            let secret = labels::secret(self.labels(), &path(name)).map(Value::Secret);
            let value = secret.or_else(|| self.environment(name).map(Value::from))?;
            Some((name.to_owned(), value))
        };
        MachineSpec::PROXIES.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use ksail_model::Secret;

    use super::*;

    #[test]
    fn variables_are_written_twice_and_secrets_only_with_their_text() {
        let secret = Value::Secret(Secret::env("HTTPS_PROXY"));
        let proxies =
            BTreeMap::from([("HTTPS_PROXY".to_owned(), secret), ("NO_PROXY".to_owned(), Value::from("10.0.0.0/8"))]);
        let past = ["NO_PROXY=10.0.0.0/8", "no_proxy=10.0.0.0/8"];
        assert_eq!(variables(&proxies), past);
        let texts = BTreeMap::from([(path("HTTPS_PROXY"), SecretText::new("http://u:p@x".to_owned()))]);
        let proxied = variables(&with_texts(&proxies, &texts));
        assert_eq!(proxied[..2], ["HTTPS_PROXY=http://u:p@x", "https_proxy=http://u:p@x"]);
        assert_eq!(proxied[2..], past);
    }
}
