//! The tests that every state backend passes. A backend's own tests call [`run`]; what is particular to its medium (torn
//! lines, lost leases) it tests beside that.
//!
//! A check that fails panics, as tests do.

mod checks;
pub mod samples;

use ksail_records::Backend;

/// Opens the same stack again and again, as several processes would.
pub type Opener = Box<dyn Fn() -> Box<dyn Backend> + Send + Sync>;

/// Runs every check, each on a new and empty stack made by `fresh`. The runtime may be of any flavour.
pub async fn run(mut fresh: impl FnMut() -> Opener) {
    checks::nothing_is_there_at_first(fresh()).await;
    checks::what_is_created_can_be_read(fresh()).await;
    checks::a_state_is_created_once(fresh()).await;
    checks::a_state_is_created_with_its_first_entries(fresh()).await;
    checks::appended_entries_are_there_for_all(fresh()).await;
    checks::the_next_writer_goes_on(fresh()).await;
    checks::a_wrong_sequence_number_is_fenced(fresh()).await;
    checks::an_entry_that_cannot_follow_is_named(fresh()).await;
    checks::a_checkpoint_changes_nothing(fresh()).await;
    checks::a_checkpoint_that_would_drop_entries_is_refused(fresh()).await;
    checks::a_checkpoint_comes_due(fresh()).await;
    checks::history_is_newest_first(fresh()).await;
    checks::a_seal_goes_into_the_history_with_its_entries(fresh()).await;
    checks::a_seal_without_archive_reaches_the_history(fresh()).await;
    checks::one_writer_at_a_time(fresh()).await;
    checks::a_dropped_writer_frees_the_lock(fresh()).await;
    checks::waiting_writers_take_turns(fresh()).await;
    checks::a_held_lock_is_not_broken_by_a_wrong_id(fresh()).await;
    checks::readers_see_prefixes_while_a_writer_works(fresh()).await;
}
