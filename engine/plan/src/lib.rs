//! Graph, diff, plan and explain: pure functions over declarations, records and observations.
