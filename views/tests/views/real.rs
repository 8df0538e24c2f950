//! Tests that need a program that may not be there.

/// Says why a test did not run, or fails where every test must.
#[expect(clippy::print_stderr, reason = "a test that does not run says why")]
pub(crate) fn missing(why: &str) {
    assert!(
        std::env::var_os("KSAIL_REQUIRE_REAL").is_none_or(|value| value.is_empty()),
        "KSAIL_REQUIRE_REAL is set, and {why}"
    );
    eprintln!("skipped: {why}");
}
