//! Values of a Secret that stand elsewhere: `${NAME}`, `${file:path}`, `${exec:program arguments}`.

use ksail_model::{Secret, SecretPart, Value};

use crate::credential;

const FILE: &str = "${file:";
const COMMAND: &str = "${exec:";

/// What is wrong with a value, as a fragment that holds nothing of it, and what to do about it.
pub(super) type Wrong = (&'static str, &'static str);

/// The reference that a value is. `None` where the value stands there itself. `encoded`: the value is one of `data`, where base64
/// stands.
pub(super) fn reference(text: &str, encoded: bool) -> Result<Option<Value>, Wrong> {
    let parts = if let Some(rest) = text.strip_prefix(FILE) {
        vec![SecretPart::File(whole(rest)?.to_owned())]
    } else if let Some(rest) = text.strip_prefix(COMMAND) {
        let words = shlex::split(whole(rest)?).filter(|words| !words.is_empty());
        let hint = "quotes stand in pairs: `${exec:op read 'op://shop/database/password'}`";
        vec![SecretPart::Command(words.ok_or(("is no command", hint))?)]
    } else {
        match credential::password(text) {
            Ok(Value::Secret(secret)) => secret.parts,
            _ => return Ok(None),
        }
    };
    let parts = match (encoded, parts.as_slice()) {
        (false, _) => parts,
        (true, [one]) => vec![SecretPart::Base64(Box::new(one.clone()))],
        (true, _) => {
            return Err(("is several references, and each would be encoded by itself", "write it under `stringData`"));
        }
    };
    Ok(Some(Value::Secret(Secret { parts, fingerprint: None })))
}

/// What stands within the braces of a reference that is the whole value.
fn whole(rest: &str) -> Result<&str, Wrong> {
    let within = rest.strip_suffix('}').map(str::trim).filter(|within| !within.is_empty());
    within.ok_or(("begins as a reference and does not end as one", "the value is the reference and nothing beside it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_references_or_stand_there() {
        let check = |text: &str, encoded: bool, wanted: Option<&str>| {
            let told = reference(text, encoded).unwrap().map(|value| match value {
                Value::Secret(secret) => format!("{:?}", secret.parts),
                other => other.to_string(),
            });
            assert_eq!(told.as_deref(), wanted, "{text}");
        };
        check("${file:tls/key.pem}", false, Some("[File(\"tls/key.pem\")]"));
        check("${file:key.p12}", true, Some("[Base64(File(\"key.p12\"))]"));
        check("${exec:op read 'a b' --x={c}}", false, Some("[Command([\"op\", \"read\", \"a b\", \"--x={c}\"])]"));
        check("${A}${B}", false, Some("[Env(\"A\"), Env(\"B\")]"));
        check("${A}", true, Some("[Base64(Env(\"A\"))]"));
        for plain in ["", "x", "x-${A}", "$${file:x}", "a ${exec:x}", "aHVzaA=="] {
            check(plain, false, None);
        }
    }

    #[test]
    fn what_is_half_a_reference_is_refused() {
        for text in ["${file:", "${file:}", "${file:x} y", "${exec:a 'b}", "${exec: }"] {
            assert!(reference(text, false).is_err(), "{text}");
        }
        assert!(reference("${A}${B}", true).is_err());
    }
}
