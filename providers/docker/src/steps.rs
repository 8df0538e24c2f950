//! Long work on a machine, which outlives whoever began it: it leaves its operation, its pid and its exit code there, and
//! whoever comes while it goes on waits for its end.

use ksail_provider::CallError;

use crate::call::Call;
use crate::exec::{Output, look, run};

/// Where work leaves what it knows, on what the machine keeps.
pub(crate) const FOLDER: &str = "/var/lib/ksail";

/// Begins a piece of work unless it goes on or is over already, waits for its end, and ends with its exit code and with what it
/// said. Arguments: its folder, whose work it is, the operation, the program.
///
/// The lock is held as long as the work goes on: that is how its end is waited for, and how it is known that one that left no
/// exit code was cut off. What was begun for another, was cut off or failed is cleared away first.
const BEGIN: &str = r#"
set -eu
folder=$1 whose=$2 operation=$3 program=$4
mkdir -p "$folder"
exec 8>"$folder/turn"
flock 8
# That of another is waited for, and then begun.
patience=
if [ "$(cat "$folder/whose" 2>/dev/null)" = "$whose" ]; then patience='-w 1'; fi
# shellcheck disable=SC2086 # Two words.
if flock $patience "$folder/lock" true; then
  if [ "$(cat "$folder/whose" 2>/dev/null)" != "$whose" ] || [ "$(cat "$folder/exit" 2>/dev/null)" != 0 ]; then
    fresh=1
    if [ -e "$folder/whose" ]; then fresh=0; fi
    rm -f "$folder/exit" "$folder/pid" "$folder/log"
    printf %s "$operation" >"$folder/operation"
    printf %s "$whose" >"$folder/whose"
    exec 9>"$folder/lock"
    flock 9
    setsid sh -c '
      folder=$1
      echo $$ >"$folder/pid"
      FRESH=$3 sh -c "$2" >"$folder/log" 2>&1 </dev/null 9>&-
      echo $? >"$folder/exit.new"
      sync "$folder/exit.new"
      mv "$folder/exit.new" "$folder/exit"
    ' sh "$folder" "$program" "$fresh" >/dev/null 2>&1 </dev/null 8>&- &
    exec 9>&-
  fi
fi
exec 8>&-
flock -s "$folder/lock" true
cat "$folder/log" 2>/dev/null || true
exit "$(cat "$folder/exit" 2>/dev/null || echo 255)"
"#;

/// Tells whose the work is that was begun last, by which operation, and what it came to. Arguments: its folder, and the sign that what it
/// came to is being changed.
const STATE: &str = r#"
folder=$1 sign=$2
cat "$folder/whose" 2>/dev/null || exit 100
echo
cat "$folder/operation" 2>/dev/null
if ! flock -sn "$folder/lock" true; then exit 101; fi
if [ -n "$sign" ] && [ -e "$sign" ]; then exit 103; fi
if [ "$(cat "$folder/exit" 2>/dev/null)" = 0 ]; then exit 0; fi
exit 102
"#;

/// Work that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    /// For whom, as they said it: one line.
    pub(crate) whose: String,
    /// By which operation.
    pub(crate) operation: String,
}

/// How work on a machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// None was begun.
    None,
    /// It goes on.
    GoesOn(Begun),
    /// It was done.
    Done(Begun),
    /// It was done, and what it came to is being changed, or was when the machine was cut off.
    Unsettled(Begun),
    /// It failed, or was cut off with its machine.
    Failed,
}

fn folder(work: &str) -> String {
    format!("{FOLDER}/{work}")
}

/// Does a piece of work, or waits for it where it goes on already; one that was done is not done again. `FRESH` is `1` in the
/// program's environment if nothing was begun there before.
pub(crate) async fn work(
    call: &Call,
    container: &str,
    doing: &str,
    name: &str,
    whose: &str,
    program: &str,
) -> Result<Output, CallError> {
    let operation = call.context.operation.as_deref().unwrap_or_default();
    let command = ["sh", "-c", BEGIN, "sh", &folder(name), whose, operation, program];
    run(call, container, doing, &command, "").await
}

/// How a piece of work stands.
pub(crate) async fn state(call: &Call, container: &str, what: &str, name: &str) -> Result<Work, CallError> {
    state_unless(call, container, what, name, "").await
}

/// How a piece of work stands, unless a sign is there that what it came to is being changed.
pub(crate) async fn state_unless(
    call: &Call,
    container: &str,
    what: &str,
    name: &str,
    sign: &str,
) -> Result<Work, CallError> {
    let Some(output) = look(call, container, what, &["sh", "-c", STATE, "sh", &folder(name), sign]).await? else {
        return Ok(Work::None);
    };
    let (whose, operation) = output.stdout.split_once('\n').unwrap_or((&output.stdout, ""));
    let begun = Begun { whose: whose.to_owned(), operation: operation.trim().to_owned() };
    match output.code {
        100 => Ok(Work::None),
        101 => Ok(Work::GoesOn(begun)),
        0 => Ok(Work::Done(begun)),
        103 => Ok(Work::Unsettled(begun)),
        102 => Ok(Work::Failed),
        // The shell itself could not run: nothing is known.
        _ => Err(call.refused(what, &output.end(1))),
    }
}

/// Says for whom work is done, in place of who said so before. What is done stays done, and what others did before us is.
pub(crate) async fn hand_over(
    call: &Call,
    container: &str,
    doing: &str,
    name: &str,
    whose: &str,
) -> Result<(), CallError> {
    let program = r#"set -eu
mkdir -p "$1"
[ -e "$1/whose" ] || echo 0 >"$1/exit"
printf %s "$2" >"$1/whose.new"
sync "$1/whose.new"
mv "$1/whose.new" "$1/whose""#;
    let output = run(call, container, doing, &["sh", "-c", program, "sh", &folder(name), whose], "").await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(doing, &output.end(3))) }
}
