//! A bucket of an S3-compatible store.

use std::sync::Arc;

use ksail_state_remote::{StoreError, StoreErrorKind};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use crate::ObjectStoreObjects;
use crate::credentials::{Lookup, Profile};
use crate::http::{Connector, ServerClock};

/// The region where none is named; stores that are not of AWS take any.
const DEFAULT_REGION: &str = "us-east-1";
/// The shortest name of a bucket.
const SHORTEST_BUCKET: usize = 3;

/// Variables of the environment that the client takes as they are.
const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_REQUEST_PAYER",
];

/// Where in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// The bucket.
    pub bucket: String,
    /// What the keys begin with; may be empty.
    pub prefix: String,
    /// The endpoint, where it is not that of AWS: over what the environment says.
    pub endpoint: Option<String>,
    /// The region: over what the environment says.
    pub region: Option<String>,
}

impl S3Place {
    /// Reads `s3://bucket/prefix`.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let unfit =
            |why: &str| StoreError::new(StoreErrorKind::Unfit, why.to_owned()).hint("write it like s3://bucket/prefix");
        let rest = url.strip_prefix("s3://").ok_or_else(|| unfit("it does not begin with s3://"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.contains('@') || bucket.contains(':') {
            return Err(unfit("an address holds a bucket and a prefix, and neither credentials nor an endpoint")
                .hint("give credentials by the environment or a profile, an endpoint as AWS_ENDPOINT_URL"));
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if bucket.len() < SHORTEST_BUCKET || !bucket.chars().all(is_name) {
            return Err(unfit(&format!("`{bucket}` cannot be the name of a bucket")));
        }
        let prefix = prefix.trim_matches('/');
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '=' | '+');
        if !prefix.chars().all(is_part)
            || prefix.split('/').any(|part| part == ".." || part == ".")
            || prefix.contains("//")
        {
            return Err(unfit("a prefix is made of letters, digits and -_.=+, in parts divided by /"));
        }
        Ok(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint: None, region: None })
    }

    fn url(&self, stack: &str) -> String {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("/{}", self.prefix) };
        format!("s3://{}{prefix}/{stack}", self.bucket)
    }
}

/// The objects of a stack. Credentials by the usual chain: the environment, a profile, a web identity, a container's, the
/// machine's. Nothing is asked yet.
pub fn open(place: &S3Place, stack: &str, env: Lookup<'_>) -> Result<ObjectStoreObjects, StoreError> {
    let mut builder = AmazonS3Builder::new().with_bucket_name(&place.bucket).with_region(DEFAULT_REGION);
    let profile = Profile::read(env);
    let has_keys = env("AWS_ACCESS_KEY_ID").is_some_and(|key| !key.is_empty());
    if let Some(region) = profile.get("region") {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = profile.get("endpoint_url") {
        builder = builder.with_endpoint(endpoint);
    }
    if let (false, Some(key), Some(secret)) =
        (has_keys, profile.get("aws_access_key_id"), profile.get("aws_secret_access_key"))
    {
        builder = builder.with_access_key_id(key).with_secret_access_key(secret);
        if let Some(token) = profile.get("aws_session_token") {
            builder = builder.with_token(token);
        }
    }
    let mut endpoint = profile.get("endpoint_url").map(str::to_owned);
    for name in VARIABLES {
        let Some(value) = env(name).filter(|value| !value.is_empty()) else { continue };
        if name.starts_with("AWS_ENDPOINT_URL") && !name.ends_with("_STS") {
            endpoint = Some(value.clone());
        }
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(region) = &place.region {
        builder = builder.with_region(region);
    }
    if let Some(chosen) = &place.endpoint {
        builder = builder.with_endpoint(chosen);
        endpoint = Some(chosen.clone());
    }
    let endpoint = endpoint.unwrap_or_default();
    if let Some(rest) = endpoint.split_once("://").map(|(_, rest)| rest)
        && rest.split('/').next().is_some_and(|host| host.contains('@'))
    {
        return Err(StoreError::new(StoreErrorKind::Unfit, "the endpoint holds credentials")
            .hint("give them by the environment or a profile"));
    }
    let clock = ServerClock::default();
    let connector = Connector::new(clock.clone(), is_loopback(&endpoint))?;
    let store = builder
        // Whoever names an endpoint without TLS wants it so.
        .with_allow_http(endpoint.starts_with("http://"))
        // Tries are counted in one place, around every request.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_http_connector(connector)
        .build()
        .map_err(|error| {
            StoreError::new(StoreErrorKind::Unfit, error.to_string()).hint("check AWS_* variables and the endpoint")
        })?;
    let prefix = if place.prefix.is_empty() { stack.to_owned() } else { format!("{}/{stack}", place.prefix) };
    Ok(ObjectStoreObjects::with_clock(Arc::new(store), &prefix, place.url(stack), clock))
}

/// Whether an endpoint is on this machine.
fn is_loopback(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.starts_with("127.") || host == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let place = S3Place::parse("s3://team-state/clusters/eu/").unwrap();
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("team-state", "clusters/eu"));
        assert_eq!(place.url("dev"), "s3://team-state/clusters/eu/dev");
        assert_eq!(S3Place::parse("s3://abc").unwrap().url("dev"), "s3://abc/dev");
        for wrong in
            ["s3://", "s3://ab", "s3://A_b", "s3://key:secret@bucket/x", "s3://abc/a b", "s3://abc/../x", "gs://abc"]
        {
            let error = S3Place::parse(wrong).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn loopback_is_known() {
        assert!(
            is_loopback("http://127.0.0.1:5000") && is_loopback("http://localhost") && is_loopback("http://[::1]:9")
        );
        assert!(!is_loopback("https://s3.example.com"));
    }
}
