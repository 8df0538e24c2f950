//! What the command line promises by itself: documented codes, help, and answers that need no project.

use std::process::{Command, Output};

fn ksail(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ksail")).args(arguments).output().expect("ksail runs")
}

#[test]
fn every_code_has_a_heading_in_the_docs() {
    let page = include_str!("../../docs/codes.md");
    let known = ksail_compiler::codes::ALL.iter().map(|entry| entry.code).chain(ksail::codes::ALL.iter().copied());
    for code in known {
        assert!(page.contains(&format!("\n### {code} ")), "docs/codes.md has no heading for {code}");
    }
}

#[test]
fn every_heading_in_the_docs_is_a_code() {
    let page = include_str!("../../docs/codes.md");
    let known: Vec<String> = ksail_compiler::codes::ALL
        .iter()
        .map(|entry| entry.code.to_string())
        .chain(ksail::codes::ALL.iter().map(ToString::to_string))
        .collect();
    for line in page.lines().filter_map(|line| line.strip_prefix("### KS")) {
        let code = format!("KS{}", &line[..4]);
        assert!(known.contains(&code), "docs/codes.md documents {code}, which nothing says");
    }
}

#[test]
fn short_help_fits_a_screen_and_long_help_has_examples() {
    let short = String::from_utf8(ksail(&["-h"]).stdout).unwrap();
    assert!(short.lines().count() <= 50, "{short}");
    for command in ["plan", "apply", "destroy", "show", "explain", "import", "undo", "output", "init"] {
        let long = String::from_utf8(ksail(&[command, "--help"]).stdout).unwrap();
        assert!(long.contains("Examples:"), "{command} --help has no examples");
        let short = String::from_utf8(ksail(&[command, "-h"]).stdout).unwrap();
        assert!(!short.contains("Examples:"), "{command} -h is not short");
    }
}

#[test]
fn version_is_told_for_people_and_programs() {
    let flag = String::from_utf8(ksail(&["--version"]).stdout).unwrap();
    assert_eq!(flag, format!("ksail {}\n", env!("CARGO_PKG_VERSION")));
    let text = ksail(&["version"]);
    assert!(text.status.success());
    assert_eq!(String::from_utf8(text.stdout).unwrap(), format!("ksail {}\n", env!("CARGO_PKG_VERSION")));
    let json: serde_json::Value = serde_json::from_slice(&ksail(&["version", "--format", "json"]).stdout).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn what_programs_ask_wrongly_is_told_as_json() {
    for arguments in [
        &["plan", "--tarjet", "x", "--format", "json"][..],
        &["--format=json", "apply", "--parallelism", "0"],
        &["state", "--format", "json"],
    ] {
        let output = ksail(arguments);
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert_eq!((&told["code"], &told["severity"]), (&"KS0702".into(), &"error".into()));
        assert!(told["message"].as_str().unwrap().len() > 10 && told["hint"].is_string(), "{told}");
    }
    let zero = String::from_utf8(ksail(&["apply", "--parallelism", "0"]).stderr).unwrap();
    assert!(zero.contains("a number from 1") && !zero.contains("non-zero"), "{zero}");
}

#[test]
fn unknown_commands_and_flags_are_usage_errors() {
    for arguments in [&["aply"][..], &["plan", "--tarjet", "x"]] {
        let output = ksail(arguments);
        assert!(!output.status.success());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("similar"), "{told}");
    }
}
