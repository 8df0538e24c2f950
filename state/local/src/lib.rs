//! State in a local folder: checksummed journal, atomic snapshot, OS lock, history.
