//! The targets, and how they came out.

use xtask::graph::Shape;

use super::results::{Case, Results, Stage, Target, Tool};
use super::{DISTANT_NODES, MANY_IN_FLIGHT, MANY_IN_FLIGHT_NODES, ROUND_TRIP_MS};

/// How many times faster than terraform's an apply of [`COMPARED`] flat nodes is, at least.
const APPLY_FASTER: f64 = 300.0;

/// The size at which applies are compared.
const COMPARED: usize = 2_000;

/// How many times faster than terraform's a plan of [`COMPARED`] flat nodes is, at least: of fewer, both mostly start.
const PLAN_FASTER: f64 = 30.0;

/// What part of terraform's memory an apply takes by resource, at most.
const MEMORY_PART: f64 = 0.1;

/// The longest an apply of [`SMALLER`] nodes takes, in milliseconds: about a second.
const APPLY_MS: f64 = 1_500.0;

/// The sizes between which the exponent is taken.
const SMALLER: usize = 10_000;
/// The sizes between which the exponent is taken.
const LARGER: usize = 100_000;

/// The largest exponent of time by size.
const EXPONENT: f64 = 1.1;

/// The most that a change of one among [`SMALLER`] writes, in bytes.
const CHANGE_BYTES: f64 = 10.0 * 1024.0;

/// The longest makespan, in the larger of critical path and work by calls in flight.
const MAKESPAN: f64 = 1.05;

/// Durable operations a second with [`MANY_IN_FLIGHT`], at least.
const OPERATIONS: f64 = 10_000.0;

/// How many times as long an apply of flat nodes takes at most where its state is a round trip away. Where nodes stand on each
/// other no call can be made before what it stands on is durable, a round trip a layer.
const DISTANT: f64 = 1.5;

/// The longest times of commands, in milliseconds.
pub(crate) const COMMANDS_MS: [(&str, f64); 2] =
    [("ksail version", 10.0), ("ksail plan (quickstart, no changes)", 50.0)];

/// Judges all targets.
pub(crate) fn judge(results: &Results) -> Vec<Target> {
    let mut targets = vec![
        at_least(
            format!("apply of {COMPARED} flat, times faster than terraform"),
            APPLY_FASTER,
            "×",
            apply_faster(results),
        ),
        at_least(
            format!("plan of {COMPARED} flat, with and without changes, times faster than terraform"),
            PLAN_FASTER,
            "×",
            plan_faster(results),
        ),
        at_most(
            "memory of an apply by resource, part of terraform's (worst shape, largest size)".to_owned(),
            MEMORY_PART,
            "",
            memory_part(results),
        ),
        at_most(format!("apply of {SMALLER} (worst shape)"), APPLY_MS / 1000.0, " s", apply_seconds(results)),
    ];
    for stage in Stage::ALL {
        let wanted = format!("exponent of {stage} from {SMALLER} to {LARGER} (worst shape)");
        targets.push(at_most(wanted, EXPONENT, "", exponent(results, stage)));
    }
    targets.push(at_most(
        format!("written by a change of one among {SMALLER} (worst shape)"),
        CHANGE_BYTES / 1024.0,
        " KiB",
        change_kib(results),
    ));
    let makespan = results.makespans.iter().map(super::results::Makespan::ratio).max_by(f64::total_cmp);
    targets.push(at_most("makespan, of what is possible (worst)".to_owned(), MAKESPAN, "×", makespan));
    targets.push(at_least(
        format!("durable operations a second, {MANY_IN_FLIGHT} in flight (flat)"),
        OPERATIONS,
        "",
        operations(results),
    ));
    let distant =
        results.distant.iter().find(|distant| distant.shape == Shape::Flat).map(super::results::Distant::ratio);
    targets.push(at_most(
        format!("apply of {DISTANT_NODES} flat with its state {ROUND_TRIP_MS} ms away, of one with its state here"),
        DISTANT,
        "×",
        distant,
    ));
    for (command, most) in COMMANDS_MS {
        targets.push(at_most(command.to_owned(), most, " ms", results.commands_ms.get(command).copied()));
    }
    targets
}

fn at_least(what: String, least: f64, unit: &str, found: Option<f64>) -> Target {
    target(format!("{what}: at least {}{unit}", number(least)), unit, found, |value| value >= least)
}

fn at_most(what: String, most: f64, unit: &str, found: Option<f64>) -> Target {
    target(format!("{what}: at most {}{unit}", number(most)), unit, found, |value| value <= most)
}

fn target(wanted: String, unit: &str, found: Option<f64>, meets: impl Fn(f64) -> bool) -> Target {
    let text = found.map_or_else(|| "not measured".to_owned(), |value| format!("{}{unit}", number(value)));
    Target { wanted, found: text, met: found.map(meets) }
}

/// A number with as many places as it deserves.
pub(crate) fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        value => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn case(results: &Results, tool: Tool, shape: Shape, nodes: usize, parallelism: Option<usize>) -> Option<&Case> {
    results
        .cases
        .iter()
        .find(|case| case.tool == tool && case.shape == shape && case.nodes == nodes && case.parallelism == parallelism)
}

fn ours(results: &Results, shape: Shape, nodes: usize) -> Option<&Case> {
    case(results, Tool::Ksail, shape, nodes, None)
}

/// Terraform's cases with ours beside them.
fn pairs(results: &Results) -> impl Iterator<Item = (&Case, &Case)> {
    let theirs = results.cases.iter().filter(|case| case.tool == Tool::Terraform);
    theirs.filter_map(|theirs| Some((ours(results, theirs.shape, theirs.nodes)?, theirs)))
}

fn apply_faster(results: &Results) -> Option<f64> {
    let theirs = case(results, Tool::Terraform, Shape::Flat, COMPARED, None)?;
    Some(theirs.wall_ms(Stage::Apply)? / ours(results, Shape::Flat, COMPARED)?.wall_ms(Stage::Apply)?)
}

fn plan_faster(results: &Results) -> Option<f64> {
    let theirs = case(results, Tool::Terraform, Shape::Flat, COMPARED, None)?;
    let ours = ours(results, Shape::Flat, COMPARED)?;
    let faster = |stage| Some(theirs.wall_ms(stage)? / ours.wall_ms(stage)?);
    Some(f64::min(faster(Stage::Plan)?, faster(Stage::Replan)?))
}

fn memory_part(results: &Results) -> Option<f64> {
    let largest =
        |shape| pairs(results).filter(move |(ours, _)| ours.shape == shape).max_by_key(|(ours, _)| ours.nodes);
    Shape::ALL
        .into_iter()
        .filter_map(largest)
        .filter_map(|(ours, theirs)| Some(ours.max_rss(Stage::Apply)? / theirs.max_rss(Stage::Apply)?))
        .max_by(f64::total_cmp)
}

fn apply_seconds(results: &Results) -> Option<f64> {
    worst(|shape| Some(ours(results, shape, SMALLER)?.wall_ms(Stage::Apply)? / 1000.0))
}

fn exponent(results: &Results, stage: Stage) -> Option<f64> {
    worst(|shape| {
        let (small, large) = (ours(results, shape, SMALLER)?, ours(results, shape, LARGER)?);
        let times = large.wall_ms(stage)? / small.wall_ms(stage)?;
        Some(times.ln() / (LARGER as f64 / SMALLER as f64).ln())
    })
}

fn change_kib(results: &Results) -> Option<f64> {
    worst(|shape| {
        let written = |sample: &super::results::Sample| sample.written_bytes.map(|bytes| bytes as f64 / 1024.0);
        ours(results, shape, SMALLER)?.median(Stage::ChangeOne, written)
    })
}

fn operations(results: &Results) -> Option<f64> {
    let many = case(results, Tool::Ksail, Shape::Flat, MANY_IN_FLIGHT_NODES, Some(MANY_IN_FLIGHT))?;
    Some(many.nodes as f64 / many.median(Stage::Apply, |sample| sample.dispatched_ms)? * 1000.0)
}

fn worst(of: impl Fn(Shape) -> Option<f64>) -> Option<f64> {
    Shape::ALL.into_iter().filter_map(of).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Taken;
    use crate::bench::results::{Makespan, Sample};

    fn with(cases: &[(Tool, usize, Stage, f64)]) -> Results {
        let mut results = Results::default();
        for (tool, nodes, stage, wall_ms) in cases {
            let mut case = Case::new(*tool, Shape::Flat, *nodes, None);
            let taken = Taken { wall_ms: *wall_ms, max_rss_bytes: 1 };
            case.note(*stage, Sample { taken, ..Sample::default() });
            results.cases.push(case);
        }
        results
    }

    fn met(results: &Results, wanted: &str) -> Option<bool> {
        judge(results).into_iter().find(|target| target.wanted.starts_with(wanted)).unwrap().met
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        assert!(judge(&Results::default()).iter().all(|target| target.met.is_none()));
    }

    #[test]
    fn applies_are_compared_at_one_size() {
        let compared = |ours| {
            let cases =
                [(Tool::Terraform, COMPARED, Stage::Apply, 90_000.0), (Tool::Ksail, COMPARED, Stage::Apply, ours)];
            met(&with(&cases), "apply of 2000")
        };
        assert_eq!(compared(300.0), Some(true));
        assert_eq!(compared(301.0), Some(false));
    }

    #[test]
    fn exponents_and_makespans() {
        let grown = |large| {
            let cases = [(Tool::Ksail, SMALLER, Stage::Plan, 100.0), (Tool::Ksail, LARGER, Stage::Plan, large)];
            met(&with(&cases), "exponent of plan from")
        };
        assert_eq!(grown(1_250.0), Some(true));
        assert_eq!(grown(1_300.0), Some(false));
        let span = |took_ms| {
            let (critical_path_ms, work_ms) = (100.0, 200.0);
            let one = Makespan { shape: Shape::Flat, nodes: 1, parallelism: 1, took_ms, critical_path_ms, work_ms };
            met(&Results { makespans: vec![one], ..Results::default() }, "makespan")
        };
        assert_eq!(span(209.0), Some(true));
        assert_eq!(span(211.0), Some(false));
    }

    #[test]
    fn numbers_have_the_places_that_they_deserve() {
        for (value, text) in [(1234.5, "1234"), (12.34, "12.3"), (10.0, "10"), (1.05, "1.05"), (0.0712, "0.071")] {
            assert_eq!(number(value), text);
        }
    }
}
