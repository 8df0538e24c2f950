//! Texts in a credential's place. They are never expanded: what they refer to stays a reference from here on.

use ksail_model::{Secret, SecretPart, Value};

use crate::template::{Piece, pieces};

/// Why a text may not stand in a credential's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credential itself stands there.
    Literal,
    /// A reference has a default.
    Default,
    /// `${` that begins no reference.
    Broken,
}

/// A password or token: references and nothing else.
pub(crate) fn password(text: &str) -> Result<Value, Refusal> {
    let value = parts(text)?;
    if value.parts.iter().any(|part| matches!(part, SecretPart::Literal(_))) || value.parts.is_empty() {
        return Err(Refusal::Literal);
    }
    Ok(Value::Secret(value))
}

/// A user's name: a text, or a secret where it has references.
pub(crate) fn username(text: &str) -> Result<Value, Refusal> {
    let value = parts(text)?;
    if value.parts.iter().all(|part| matches!(part, SecretPart::Literal(_))) {
        let joined = value.parts.iter().map(|part| match part {
            SecretPart::Literal(text) => text.as_str(),
            _ => "",
        });
        return Ok(Value::String(joined.collect()));
    }
    Ok(Value::Secret(value))
}

fn parts(text: &str) -> Result<Secret, Refusal> {
    let mut parts = Vec::new();
    for piece in pieces(text) {
        parts.push(match piece {
            Piece::Literal(text) => SecretPart::Literal(text),
            Piece::Variable { name, default: None } => SecretPart::Env(name),
            Piece::Variable { default: Some(_), .. } => return Err(Refusal::Default),
            Piece::Broken(_) => return Err(Refusal::Broken),
        });
    }
    Ok(Secret { parts, fingerprint: None })
}

/// A URL or registry taken apart; nothing in it is expanded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UrlParts<'a> {
    /// `https://`, or nothing.
    pub(crate) scheme: &'a str,
    /// `user`, or `user:password`, without the `@`.
    pub(crate) userinfo: Option<(&'a str, Option<&'a str>)>,
    /// Host, port and path.
    pub(crate) rest: &'a str,
}

/// Takes a URL or registry apart. What stands within `${…}` separates nothing.
pub(crate) fn url_parts(text: &str) -> UrlParts<'_> {
    let outside = outside_references(text);
    let find = |from: usize, to: usize, wanted: u8| (from..to).find(|&at| outside[at] && text.as_bytes()[at] == wanted);
    let start = match text.find("://") {
        Some(at) if outside[at] => at + 3,
        _ => 0,
    };
    let end = find(start, text.len(), b'/').unwrap_or(text.len());
    let at = (start..end).rev().find(|&at| outside[at] && text.as_bytes()[at] == b'@');
    let userinfo = at.map(|at| match find(start, at, b':') {
        Some(colon) => (&text[start..colon], Some(&text[colon + 1..at])),
        None => (&text[start..at], None),
    });
    UrlParts { scheme: &text[..start], userinfo, rest: &text[at.map_or(start, |at| at + 1)..] }
}

/// For each byte whether it stands outside of every `${…}`.
fn outside_references(text: &str) -> Vec<bool> {
    let bytes = text.as_bytes();
    let mut outside = Vec::with_capacity(bytes.len());
    let mut within = false;
    for (at, byte) in bytes.iter().enumerate() {
        if !within && *byte == b'$' && bytes.get(at + 1) == Some(&b'{') && text[at..].contains('}') {
            within = true;
        }
        outside.push(!within);
        if *byte == b'}' {
            within = false;
        }
    }
    outside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_references_only() {
        assert_eq!(password("${A}"), Ok(Value::Secret(Secret::env("A"))));
        assert_eq!(password("hunter2"), Err(Refusal::Literal));
        assert_eq!(password("${A}x"), Err(Refusal::Literal));
        assert_eq!(password(""), Err(Refusal::Literal));
        assert_eq!(password("${A:-hunter2}"), Err(Refusal::Default));
        assert_eq!(password("${A"), Err(Refusal::Broken));
    }

    #[test]
    fn usernames_may_be_open() {
        assert_eq!(username("me"), Ok(Value::from("me")));
        assert_eq!(username("${A}"), Ok(Value::Secret(Secret::env("A"))));
        assert_eq!(username("${A:-me}"), Err(Refusal::Default));
    }

    #[test]
    fn urls_are_taken_apart() {
        let check = |text: &str, wanted: (&str, Option<(&str, Option<&str>)>, &str)| {
            let parts = url_parts(text);
            assert_eq!((parts.scheme, parts.userinfo, parts.rest), wanted, "{text}");
        };
        check("ghcr.io", ("", None, "ghcr.io"));
        check("https://ghcr.io/a@b", ("https://", None, "ghcr.io/a@b"));
        check("https://u:${T}@ghcr.io/x", ("https://", Some(("u", Some("${T}"))), "ghcr.io/x"));
        check("u:${T:-a@b:c/d}@h:1", ("", Some(("u", Some("${T:-a@b:c/d}"))), "h:1"));
        check("${T}@h", ("", Some(("${T}", None)), "h"));
        check("u:a@b@h", ("", Some(("u", Some("a@b"))), "h"));
    }
}
