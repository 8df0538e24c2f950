//! Runs one rule for one kind.

use tracing::instrument::WithSubscriber as _;

use super::harness::{Checked, Harness, Stop};
use super::listening::Ear;
use super::{Case, Gap, Rule, Subject, Verdict, Way, rules};

/// Shorter texts could occur in a reply by chance.
const SHORTEST_CANARY: usize = 8;

/// What came of a check, and where a secret was heard meanwhile.
pub(super) async fn check(subject: &dyn Subject, kind: &str, rule: Rule, way: Way) -> (Verdict, Vec<String>) {
    match prepare(subject, kind, rule, way).await {
        Ok(harness) => carry_out(&harness, rule).await,
        Err(verdict) => (verdict, Vec::new()),
    }
}

/// A harness for the check, with something listening to what is logged and said.
async fn prepare(subject: &dyn Subject, kind: &str, rule: Rule, way: Way) -> Result<Harness, Verdict> {
    if matches!(way, Way::Faulty(_)) && !rule.holds_under_faults() {
        return Err(Verdict::NotApplicable("it is checked without faults".to_owned()));
    }
    let setup = subject.fresh(kind).await.map_err(|gap| match gap {
        Gap::NotApplicable(why) => Verdict::NotApplicable(why),
        Gap::Broken(how) => Verdict::Fail(format!("no fresh setup: {how}")),
    })?;
    let canaries = canaries(&setup.case);
    if canaries.iter().any(|canary| canary.len() < SHORTEST_CANARY) {
        return Err(Verdict::Fail(format!("the case has a secret of fewer than {SHORTEST_CANARY} characters")));
    }
    Ok(Harness::new(setup, subject.limits(), way, Ear::new(canaries)))
}

async fn carry_out(harness: &Harness, rule: Rule) -> (Verdict, Vec<String>) {
    let limit = harness.limits.check;
    let result = tokio::time::timeout(limit, run(harness, rule).with_subscriber(harness.subscriber())).await;
    let result = result.unwrap_or_else(|_| Err(Stop::Fail(format!("not finished within {limit:?}"))));
    let cleaned = harness.setup.outside.clean_up().await;
    let verdict = match (result, cleaned) {
        (Err(Stop::Fail(why)), _) => Verdict::Fail(why),
        (_, Err(gap)) => Verdict::Fail(format!("the outside could not be cleaned up: {gap}")),
        (Err(Stop::NotApplicable(why)), Ok(())) => Verdict::NotApplicable(why),
        (Ok(()), Ok(())) => Verdict::Pass,
    };
    (verdict, harness.leaks())
}

fn canaries(case: &Case) -> Vec<String> {
    let changes = [&case.change, &case.replacement].into_iter().flatten();
    let all = case.secrets.values().chain(changes.flat_map(|change| change.secrets.values()));
    let mut canaries: Vec<String> = all.map(|secret| secret.expose().to_owned()).collect();
    // Debug and JSON escape some characters.
    canaries.extend(canaries.clone().iter().map(|text| serde_json::Value::from(text.as_str()).to_string()));
    canaries.iter_mut().for_each(|text| *text = text.trim_matches('"').to_owned());
    canaries.sort();
    canaries.dedup();
    canaries
}

async fn run(harness: &Harness, rule: Rule) -> Checked {
    match rule {
        Rule::Batch => rules::look::batch(harness).await,
        Rule::UnknownNeverAbsent => rules::look::unknown_never_absent(harness).await,
        Rule::CreateOnce => rules::make::create_once(harness).await,
        Rule::Adoption => rules::make::adoption(harness).await,
        Rule::UnmarkedKept => rules::make::unmarked_kept(harness).await,
        Rule::OtherLineageKept => rules::make::other_lineage_kept(harness).await,
        Rule::LostCreateReply => rules::repeat::lost_create_reply(harness).await,
        Rule::Update => rules::repeat::update(harness).await,
        Rule::LostUpdateReply => rules::repeat::lost_update_reply(harness).await,
        Rule::LostDeleteReply => rules::repeat::lost_delete_reply(harness).await,
        Rule::Indeterminate => rules::leave::indeterminate(harness).await,
        Rule::DeleteGone => rules::unmake::delete_gone(harness).await,
        Rule::ForeignDelete => rules::unmake::foreign_delete(harness).await,
        Rule::AdoptedDelete => rules::unmake::adopted_delete(harness).await,
        Rule::Generation => rules::unmake::generation(harness).await,
        Rule::Sharing => rules::unmake::sharing(harness).await,
        Rule::Cancellation => rules::leave::cancellation(harness).await,
        Rule::Deadline => rules::leave::deadline(harness).await,
        Rule::Readiness => rules::ready::readiness(harness).await,
        Rule::WaitDeadline => rules::ready::wait_deadline(harness).await,
        Rule::Secrets => rules::look::secrets(harness).await,
        Rule::Quiet => rules::look::quiet(harness).await,
        Rule::Listing => rules::look::listing(harness).await,
        Rule::Previews => rules::look::previews(harness).await,
    }
}
