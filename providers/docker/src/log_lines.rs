//! What is told of a text that is not ours: which lines of a log, and none that hold a secret.

/// Stands for a line that holds a secret text.
const WITHHELD: &str = "(a line withheld: it holds a secret)";
/// How many lines are told.
const SHOWN: usize = 3;
/// A secret that is shorter than this, in characters, counts only where it stands as a word of its own: within longer words
/// it could not be told from chance, and would take every line away.
const SHORT: usize = 4;
/// Words by which a line says why a program ends.
const TELLING: [&str; 6] = ["panic:", "fatal", "level=error", "level=fatal", "level=panic", "error"];

/// Whether a text holds a secret.
pub(crate) fn holds_secret<S: AsRef<str>>(text: &str, secrets: &[S]) -> bool {
    secrets
        .iter()
        .map(AsRef::as_ref)
        .filter(|secret| !secret.is_empty())
        .any(|secret| if secret.chars().count() < SHORT { has_word(text, secret) } else { text.contains(secret) })
}

/// The text, without the lines that hold a secret.
pub(crate) fn withhold<S: AsRef<str>>(text: &str, secrets: &[S]) -> String {
    // A secret of several lines is in no single one of them.
    let across = secrets.iter().map(AsRef::as_ref).any(|secret| secret.trim().contains('\n') && text.contains(secret));
    if across {
        return WITHHELD.to_owned();
    }
    let line = |line: &str| if holds_secret(line, secrets) { WITHHELD.to_owned() } else { line.to_owned() };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The lines of a log that say most: the first ones that tell of an error, else the last ones.
pub(crate) fn telling(log: &str) -> Vec<&str> {
    let is_frame = |line: &str| line.starts_with('\t') || line.starts_with("goroutine ");
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut told: Vec<&str> = Vec::new();
    for line in lines.iter().copied().filter(|line| !is_frame(line) && is_telling(line)) {
        // A program that is started again says the same again, with another time.
        if told.len() < SHOWN && !told.iter().any(|other| without_digits(other) == without_digits(line)) {
            told.push(line);
        }
    }
    if told.is_empty() {
        told = lines.iter().copied().skip(lines.len().saturating_sub(SHOWN)).collect();
    }
    told.into_iter().map(str::trim).collect()
}

fn is_telling(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    TELLING.iter().any(|word| has_word(&line, word))
}

fn without_digits(line: &str) -> String {
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether a word stands in a text, not within a longer one and not as part of a path or name.
fn has_word(text: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.');
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let mut rest = text.get(at + word.len()..).unwrap_or_default().chars();
        let after = rest.next();
        // A full stop ends a sentence; followed by more it joins.
        let ends = after == Some('.') && !rest.next().is_some_and(char::is_alphanumeric);
        !before.is_some_and(joins) && (ends || !after.is_some_and(joins) || !word.ends_with(char::is_alphanumeric))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "time=\"2026-01-01T00:00:01Z\" level=warning msg=\"No HTTP secret provided\"\n\
        panic: Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host\n\n\
        goroutine 1 [running]:\n\
        github.com/docker/distribution/registry/handlers.NewApp(0x11, 0xc0)\n\
        \t/go/src/github.com/docker/distribution/registry/errors.go:315 +0x2a\n\
        main.main()\n\
        \t/go/src/main.go:25 +0x2d\n";

    #[test]
    fn of_a_panic_the_message_is_told_and_not_the_frames() {
        let twice = format!("{PANIC}{}", PANIC.replace("0x11", "0x12"));
        let message = "panic: Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host";
        for log in [PANIC, &twice] {
            assert_eq!(telling(log), [message]);
        }
    }

    #[test]
    fn errors_are_told_first_and_else_the_last_lines() {
        let errors = "a\nlevel=error msg=one\nError: two\nlevel=fatal msg=three\nfatal: four\nb";
        assert_eq!(telling(errors), ["level=error msg=one", "Error: two", "level=fatal msg=three"]);
        assert_eq!(telling("a\nb\n\nc\nd\n"), ["b", "c", "d"]);
        assert_eq!(telling("no errors.go, no terror\n"), ["no errors.go, no terror"]);
        assert!(telling("\n \n").is_empty());
    }

    #[test]
    fn a_line_that_holds_a_secret_is_withheld_whole() {
        let text = "user: hunter22, password: x\nsomething else";
        assert_eq!(withhold(text, &["hunter22"]), format!("{WITHHELD}\nsomething else"));
        assert_eq!(withhold(text, &["hunter22\nmore"]), text);
        assert_eq!(withhold("a key\nof two lines", &["key\nof two"]), WITHHELD);
        assert_eq!(withhold(text, &[""]), text);
    }

    #[test]
    fn a_short_secret_takes_away_only_lines_where_it_is_a_word() {
        let text = "dial tcp: lookup github.com\nlogin of u failed\nlogin of `u`.";
        assert_eq!(withhold(text, &["u"]), format!("dial tcp: lookup github.com\n{WITHHELD}\n{WITHHELD}"));
    }
}
