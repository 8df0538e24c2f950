//! Results as Markdown: on stdout, and in the page of the guide.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::ROUND_TRIP_MS;
use super::measure::Error;
use super::results::{Case, Distant, Results, Stage, Tool};
use super::targets::number;

/// The page holds the table between these two lines.
pub(super) const BEGIN: &str = "<!-- table: written by `cargo xtask bench --docs` -->";
/// The page holds the table between these two lines.
const END: &str = "<!-- end of the table -->";

/// All results as Markdown tables.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write_all(&mut text, results);
    text
}

fn write_all(text: &mut String, results: &Results) -> std::fmt::Result {
    writeln!(
        text,
        "{}, {} cores, a durable 4 KiB write takes {} ms; terraform {}; {} run.",
        results.system,
        results.cores,
        number(results.sync_ms),
        results.terraform.as_deref().unwrap_or("not installed"),
        if results.quick { "quick" } else { "full" },
    )?;
    writeln!(text, "\n| target | found | |\n|---|---:|---|")?;
    for target in &results.targets {
        let verdict = match target.met {
            Some(true) => "pass",
            Some(false) => "**fail**",
            None => "skipped",
        };
        writeln!(text, "| {} | {} | {verdict} |", target.wanted, target.found)?;
    }
    cases(text, results)?;
    writeln!(
        text,
        "\n| makespan | in flight | took | critical path | work ÷ in flight | ratio |\n|---|---:|---:|---:|---:|---:|"
    )?;
    for span in &results.makespans {
        writeln!(
            text,
            "| {} {} | {} | {} | {} | {} | {} |",
            span.shape,
            span.nodes,
            span.parallelism,
            time(Some(span.took_ms)),
            time(Some(span.critical_path_ms)),
            time(Some(span.work_ms)),
            number(span.ratio())
        )?;
    }
    if !results.distant.is_empty() {
        writeln!(
            text,
            "\n| apply, state {ROUND_TRIP_MS} ms away | state in a folder | state away | ratio |\n|---|---:|---:|---:|"
        )?;
    }
    for distant in &results.distant {
        let Distant { shape, nodes, local_ms, distant_ms } = distant;
        let (local, away) = (time(Some(*local_ms)), time(Some(*distant_ms)));
        writeln!(text, "| {shape} {nodes} | {local} | {away} | {} |", number(distant.ratio()))?;
    }
    if !results.commands_ms.is_empty() {
        writeln!(text, "\n| command | time |\n|---|---:|")?;
    }
    for (command, took) in &results.commands_ms {
        writeln!(text, "| `{command}` | {} |", time(Some(*took)))?;
    }
    for skipped in &results.skipped {
        writeln!(text, "\nSkipped: {skipped}.")?;
    }
    Ok(())
}

fn cases(text: &mut String, results: &Results) -> std::fmt::Result {
    write!(text, "\n| graph | in flight | |")?;
    for stage in Stage::ALL {
        write!(text, " {stage} |")?;
    }
    writeln!(
        text,
        " memory of apply | written by change one | runs |\n|---|---:|---|{}",
        "---:|".repeat(Stage::ALL.len() + 3)
    )?;
    let mut cases: Vec<&Case> = results.cases.iter().collect();
    cases.sort_by_key(|case| (case.shape as u8, case.nodes, case.parallelism, case.tool == Tool::Terraform));
    for case in cases {
        let tool = if case.tool == Tool::Ksail { "ksail" } else { "terraform" };
        let in_flight = case.parallelism.map_or_else(|| "10".to_owned(), |calls| calls.to_string());
        write!(text, "| {} {} | {in_flight} | {tool} |", case.shape, case.nodes)?;
        for stage in Stage::ALL {
            write!(text, " {} |", time(case.wall_ms(stage)))?;
        }
        let memory = case.max_rss(Stage::Apply).map(|bytes| format!("{} MiB", number(bytes / 1024.0 / 1024.0)));
        let written = case.median(Stage::ChangeOne, |sample| sample.written_bytes.map(|bytes| bytes as f64));
        let written = written.map(|bytes| format!("{} KiB", number(bytes / 1024.0)));
        let runs = case.samples.values().map(Vec::len).max().unwrap_or(0);
        writeln!(text, " {} | {} | {runs} |", memory.unwrap_or_default(), written.unwrap_or_default())?;
    }
    Ok(())
}

fn time(ms: Option<f64>) -> String {
    match ms {
        None => String::new(),
        Some(ms) if ms >= 1000.0 => format!("{} s", number(ms / 1000.0)),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

/// Puts a table into the page, in place of the one that is there after its mark.
pub(crate) fn into_page(page: &Path, begin: &str, table: &str) -> Result<(), Error> {
    let text = fs::read_to_string(page).map_err(|source| Error::io("read", page, source))?;
    let text = replaced(&text, begin, table)
        .ok_or_else(|| Error::io("find the table in", page, std::io::Error::other("its marks are missing")))?;
    fs::write(page, text).map_err(|source| Error::io("write", page, source))
}

fn replaced(page: &str, begin: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_old_one() {
        let page = |table: &str| format!("# Title\n\n{BEGIN}\n\n{table}\n{END}\n\nMore.\n");
        assert_eq!(replaced(&page("old\n"), BEGIN, "new\n").unwrap(), page("new\n"));
        assert_eq!(replaced("no marks", BEGIN, "new"), None);
    }
}
