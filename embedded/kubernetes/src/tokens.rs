//! Who may ask: the administrator by the token of the kubeconfig, service accounts by tokens that the server signs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use crate::api::Api;

/// How the name of a service account's user begins.
const ACCOUNT: &str = "system:serviceaccount:";
/// The issuer and the audience of tokens of service accounts.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
}

/// What tokens are checked with.
pub(crate) struct Tokens {
    admin: String,
    key: Vec<u8>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(admin: String, key: Vec<u8>) -> Self {
        Self { admin, key }
    }

    fn signature(&self, text: &str) -> Hmac<sha2::Sha256> {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&self.key).expect("a key of any length is taken");
        mac.update(text.as_bytes());
        mac
    }

    /// A token of a service account.
    pub(crate) fn issue(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        audiences: &Value,
        seconds: i64,
    ) -> (String, i64) {
        let now = jiff::Timestamp::now().as_second();
        let expires = now + seconds;
        let claims = json!({
            "iss": ISSUER, "aud": audiences, "iat": now, "nbf": now, "exp": expires,
            "jti": uuid::Uuid::new_v4().to_string(),
            "sub": format!("{ACCOUNT}{namespace}:{name}"),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
        });
        let head = json!({"alg": "HS256", "typ": "JWT"});
        let body = format!("{}.{}", BASE64.encode(head.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.signature(&body).finalize().into_bytes();
        (format!("{body}.{}", BASE64.encode(signature)), expires)
    }

    /// The user of a token.
    pub(crate) fn user(&self, token: &str) -> Option<User> {
        // Both are compared in constant time: the admin's by its own signature.
        if self.signature(&self.admin).verify_slice(&self.signature(token).finalize().into_bytes()).is_ok() {
            let groups = ["system:masters", "system:authenticated"].map(str::to_owned);
            return Some(User { name: "kubernetes-admin".to_owned(), uid: String::new(), groups: groups.into() });
        }
        let (body, signature) = token.rsplit_once('.')?;
        self.signature(body).verify_slice(&BASE64.decode(signature).ok()?).ok()?;
        let claims: Value = serde_json::from_slice(&BASE64.decode(body.split_once('.')?.1).ok()?).ok()?;
        if claims["exp"].as_i64()? <= jiff::Timestamp::now().as_second() {
            return None;
        }
        let namespace = claims["kubernetes.io"]["namespace"].as_str()?;
        Some(User {
            name: claims["sub"].as_str()?.to_owned(),
            uid: claims["kubernetes.io"]["serviceaccount"]["uid"].as_str()?.to_owned(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        })
    }
}

impl Api {
    /// The user of a token. That of a service account is good as long as the account is there.
    pub(crate) fn user(&self, token: &str) -> Option<User> {
        let user = self.tokens.user(token)?;
        let Some((namespace, name)) = user.name.strip_prefix(ACCOUNT).and_then(|account| account.split_once(':'))
        else {
            return Some(user);
        };
        let account = self.object("/serviceaccounts", namespace, name)?;
        (account["metadata"]["uid"] == user.uid.as_str()).then_some(user)
    }
}
