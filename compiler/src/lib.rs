//! ksail.yaml and its overlays compiled into a declared graph.
