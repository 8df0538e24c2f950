//! References to environment variables in texts: `${NAME}` and `${NAME:-default}`.

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// As it stands.
    Literal(String),
    /// A reference.
    Variable { name: String, default: Option<String> },
    /// `${` that begins no reference; kept as it stands.
    Broken(String),
}

/// Splits a text. `$${` stands for the two characters `${`; any other `$` for itself.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            literal.push_str(&rest[..at - 1]);
            literal.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        literal.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        match inner.find('}').and_then(|end| variable(&inner[..end]).map(|piece| (piece, end))) {
            Some((piece, end)) => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
                rest = &inner[end + 1..];
            }
            None => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Broken("${".to_owned()));
                rest = inner;
            }
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    pieces
}

fn variable(inner: &str) -> Option<Piece> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (inner, None),
    };
    let first = name.chars().next()?;
    let is_name =
        (first.is_ascii_alphabetic() || first == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| Piece::Variable { name: name.to_owned(), default })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        pieces(text)
            .into_iter()
            .map(|piece| match piece {
                Piece::Literal(text) => format!("[{text}]"),
                Piece::Variable { name, default } => {
                    format!("<{name}{}>", default.map(|text| format!("|{text}")).unwrap_or_default())
                }
                Piece::Broken(text) => format!("!{text}!"),
            })
            .collect()
    }

    #[test]
    fn texts_are_split() {
        let check = |text: &str, wanted: &str| assert_eq!(show(text), wanted, "{text}");
        check("plain", "[plain]");
        check("", "");
        check("${A}", "<A>");
        check("a${A}b${B_1:-x y}c", "[a]<A>[b]<B_1|x y>[c]");
        check("${A:-}", "<A|>");
        check("$A $$ $", "[$A $$ $]");
        check("$${A}", "[${A}]");
        check("${1}", "!${![1}]");
        check("x${A", "[x]!${![A]");
        check("${A%b}", "!${![A%b}]");
    }
}
