//! Who passes the suite and who fails it, and by which rule.

use ksail_conformance::suite::{Report, Rule, Verdict, Way, run_all_ways, run_way};

use crate::planted::Flaw;
use crate::subject::{CANARY, Simulated};

/// Rules that must have been checked for some kind in each way in which they mean something.
fn assert_all_checked(report: &Report) {
    for rule in Rule::ALL {
        assert!(report.passes(*rule), "{rule} was never checked:\n{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_world_in_memory_conforms_in_every_way() {
    let report = run_all_ways(&Simulated::in_memory()).await;
    report.assert_conforms();
    assert_all_checked(&report);
    for way in [Way::Direct, Way::Pipe] {
        let checked = report.entries().iter().filter(|entry| entry.way == way && entry.verdict == Verdict::Pass);
        // Each rule holds for one of the two kinds at least.
        assert!(checked.count() >= Rule::ALL.len(), "{way}:\n{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_world_in_a_folder_conforms_in_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let report = run_all_ways(&Simulated::in_folder(folder.path().to_owned())).await;
    report.assert_conforms();
    assert_all_checked(&report);
}

#[tokio::test(start_paused = true)]
async fn other_seeds_conform_too() {
    for seed in 0..12 {
        run_way(&Simulated::in_memory(), Way::Faulty(seed)).await.assert_conforms();
    }
}

/// The planted provider fails by its rule, directly and through a pipe, and the rules named are all that it fails.
async fn fails(flaw: Flaw, by: Rule, also: &[Rule]) {
    for way in [Way::Direct, Way::Pipe] {
        let report = run_way(&Simulated::flawed(flaw), way).await;
        assert!(report.fails(by), "{by} holds {way}:\n{report}");
        for failure in report.failures() {
            assert!(failure.rule == by || also.contains(&failure.rule), "unexpected: {failure}");
        }
        assert!(!report.to_string().contains(CANARY), "the report itself tells the secret");
    }
}

#[tokio::test(start_paused = true)]
async fn duplicate_create_fails() {
    let also = [Rule::Adoption, Rule::LostCreateReply, Rule::Indeterminate, Rule::Cancellation, Rule::Sharing];
    fails(Flaw::DuplicateCreate, Rule::CreateOnce, &also).await;
}

#[tokio::test(start_paused = true)]
async fn absent_on_timeout_fails() {
    fails(Flaw::AbsentOnTimeout, Rule::UnknownNeverAbsent, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn lost_cancel_fails() {
    fails(Flaw::LostCancel, Rule::Cancellation, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn foreign_delete_fails() {
    fails(Flaw::ForeignDelete, Rule::ForeignDelete, &[Rule::Generation]).await;
}

#[tokio::test(start_paused = true)]
async fn leaked_secret_fails() {
    fails(Flaw::LeakedSecret, Rule::Secrets, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn logged_secret_fails() {
    let report = run_way(&Simulated::flawed(Flaw::LoggedSecret), Way::Direct).await;
    assert!(report.fails(Rule::Secrets), "{report}");
    assert!(report.failures().all(|failure| failure.rule == Rule::Secrets && failure.to_string().contains("the log")));
}

/// Each rule is failed by somebody.
#[tokio::test(start_paused = true)]
async fn every_rule_can_fail() {
    let table = [
        (Flaw::ShuffledBatch, Rule::Batch),
        (Flaw::AbsentOnTimeout, Rule::UnknownNeverAbsent),
        (Flaw::DuplicateCreate, Rule::CreateOnce),
        (Flaw::WrongMark, Rule::Adoption),
        (Flaw::StolenThing, Rule::UnmarkedKept),
        (Flaw::StolenThing, Rule::OtherLineageKept),
        (Flaw::OneCreateOnly, Rule::LostCreateReply),
        (Flaw::RemadeByUpdate, Rule::Update),
        (Flaw::OneUpdateOnly, Rule::LostUpdateReply),
        (Flaw::OneDeleteOnly, Rule::LostDeleteReply),
        (Flaw::RefusedOnTimeout, Rule::Indeterminate),
        (Flaw::DeniedCall, Rule::Indeterminate),
        (Flaw::GoneIsError, Rule::DeleteGone),
        (Flaw::ForeignDelete, Rule::ForeignDelete),
        (Flaw::KeptImport, Rule::AdoptedDelete),
        (Flaw::ForeignDelete, Rule::Generation),
        (Flaw::DeletedShare, Rule::Sharing),
        (Flaw::LostCancel, Rule::Cancellation),
        (Flaw::DeniedCall, Rule::Cancellation),
        (Flaw::LostDeadline, Rule::Deadline),
        (Flaw::HastyWait, Rule::Readiness),
        (Flaw::WaitIsError, Rule::WaitDeadline),
        (Flaw::LeakedSecret, Rule::Secrets),
        (Flaw::LostFingerprint, Rule::Secrets),
        (Flaw::NoisyFields, Rule::Quiet),
        (Flaw::ForgetfulList, Rule::Listing),
        (Flaw::PreviewThatMakes, Rule::Previews),
    ];
    for rule in Rule::ALL {
        assert!(table.iter().any(|(_, of)| of == rule), "nobody fails {rule}");
    }
    for (flaw, rule) in table {
        let report = run_way(&Simulated::flawed(flaw), Way::Direct).await;
        assert!(report.fails(rule), "{flaw:?} passes {rule}:\n{report}");
    }
}
