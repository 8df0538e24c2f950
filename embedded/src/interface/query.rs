//! Queries, filters and bodies of requests.

use std::collections::BTreeMap;

use axum::body::Body;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::reply::ApiError;

/// The longest body of JSON, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// The pairs of a query.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A flag, read as the Docker Engine reads it.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "0" | "no" | "false" | "none"))
    }

    /// The filters.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        self.get("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }
}

/// Filters of a list: what is listed satisfies each key by one of its values, and every label.
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `{"label": ["a=b"]}` and the older `{"label": {"a=b": true}}`.
    fn parse(text: &str) -> Result<Self, ApiError> {
        let bad = || ApiError::bad("invalid filter: it is not a JSON object of lists");
        let json: Value = serde_json::from_str(text).map_err(|_| bad())?;
        let mut filters = BTreeMap::new();
        for (key, values) in json.as_object().ok_or_else(bad)? {
            let values = match values {
                Value::Array(values) => values
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(bad)?,
                Value::Object(values) => values.keys().cloned().collect(),
                _ => return Err(bad()),
            };
            filters.insert(key.clone(), values);
        }
        Ok(Self(filters))
    }

    /// Refuses keys that this list does not know.
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::bad(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Whether a key is absent or one of its values passes the test.
    pub(crate) fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|value| test(value)))
    }

    /// Whether a key is given.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Whether all labels asked for are there.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.get("label").into_iter().flatten().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        })
    }

    /// Whether a name matches: a regular expression, anywhere in the name.
    pub(crate) fn name(&self, key: &str, names: &[&str]) -> bool {
        self.any(key, |wanted| {
            let expression = regex_lite::Regex::new(wanted).ok();
            names.iter().any(|name| *name == wanted || expression.as_ref().is_some_and(|found| found.is_match(name)))
        })
    }
}

/// Reads a body of JSON; an empty one gives the default.
pub(crate) async fn read_json<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiError> {
    let bytes = axum::body::to_bytes(body, MAX_BODY)
        .await
        .map_err(|_| ApiError::bad(format!("the body is longer than {MAX_BODY} bytes, or broke off")))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad(format!("the body cannot be read: {error}")))
}

/// A map of texts that may be null.
pub(crate) fn texts<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(<Option<BTreeMap<String, String>> as serde::Deserialize>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_filters_and_labels() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        for (text, passes) in [
            (r#"{"label":["a=b","c"]}"#, true),
            (r#"{"label":{"a=b":true}}"#, true),
            (r#"{"label":["a=x"]}"#, false),
            (r#"{"label":["d"]}"#, false),
            (r#"{}"#, true),
        ] {
            assert_eq!(Filters::parse(text).unwrap().labels(&labels), passes, "{text}");
        }
        assert!(Filters::parse("[]").is_err());
        let filters = Filters::parse(r#"{"name":["^/?dev-reg$"]}"#).unwrap();
        assert!(filters.name("name", &["/dev-reg", "dev-reg"]) && !filters.name("name", &["/dev-reg2"]));
        assert!(filters.check(&["label"]).is_err());
    }
}
