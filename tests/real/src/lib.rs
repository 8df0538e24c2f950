//! What tests need of the machine (an engine, a store, a program), and what they tell where it is not there.
//!
//! A test that cannot run says why, or fails where everything is required to run (`KSAIL_REQUIRE_REAL`). What is told goes to
//! standard error itself: `println!` and `eprintln!` of a test that passes are seen by nobody.

use std::io::Write as _;

/// The variable that requires every test to run.
const REQUIRE: &str = "KSAIL_REQUIRE_REAL";

/// Tells a line that is seen in a passing run too.
pub fn tell(text: &str) {
    // One write, so that lines of tests that run beside each other stay whole.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Tells why a test did not run.
///
/// # Panics
/// Where every test is required to run.
#[track_caller]
pub fn did_not_run(why: &str) {
    assert!(!requires(std::env::var(REQUIRE).ok().as_deref()), "{REQUIRE} is set, and {why}");
    let name = std::thread::current().name().map(|name| format!("{name} ")).unwrap_or_default();
    tell(&format!("{name}did not run: {why}"));
}

/// What a variable names, if it is set and not empty; else the test did not run. `how` tells how to set it.
///
/// # Panics
/// Where every test is required to run.
#[track_caller]
pub fn variable(name: &str, how: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        did_not_run(&format!("{name} is not set ({how})"));
    }
    value
}

/// Whether the variable's value requires every test to run: it is set, and neither empty nor `0`.
fn requires(value: Option<&str>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

#[cfg(test)]
mod tests {
    use super::requires;

    #[test]
    fn one_reading_of_the_variable() {
        let check = |value: Option<&str>, wanted: bool| assert_eq!(requires(value), wanted, "{value:?}");
        check(None, false);
        check(Some(""), false);
        check(Some("0"), false);
        check(Some("1"), true);
        check(Some("true"), true);
    }
}
