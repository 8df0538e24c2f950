//! The conformance suite that every provider passes, and the fault decorator.
