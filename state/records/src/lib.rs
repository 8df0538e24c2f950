//! Journal entries, legal transitions, replay and the contract of a state backend.
