//! What is stored comes back as it was.

use std::fmt::Debug;

use ksail_records::{LockOwner, Snapshot};
use proptest::prelude::{ProptestConfig, any, proptest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arbitrary;
use crate::samples::empty;

fn must_come_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(thing: &T) {
    let text = serde_json::to_string(thing).unwrap();
    assert!(!text.contains('\n'), "a line of the journal is one line");
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *thing, "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_come_back(value in arbitrary::value()) {
        must_come_back(&value);
    }

    #[test]
    fn entries_come_back(entry in arbitrary::entry()) {
        must_come_back(&entry);
    }

    #[test]
    fn snapshots_and_sealed_operations_come_back(entries in arbitrary::entries(), environment in any::<Option<String>>()) {
        let mut state = empty();
        for entry in &entries {
            if let Ok(Some(operation)) = state.apply(entry) {
                must_come_back(&operation);
            }
        }
        let snapshot: Snapshot = Snapshot { environment, ..state.into_snapshot() };
        must_come_back(&snapshot);
    }

    #[test]
    fn lock_owners_come_back(id: String, who: String, pid: u32, since_ms: u64) {
        must_come_back(&LockOwner { id, who, doing: "apply".to_owned(), pid, since_ms });
    }
}
