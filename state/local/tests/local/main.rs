//! The backend in a folder: the suite of all backends, and the faults of files.

mod suite;
