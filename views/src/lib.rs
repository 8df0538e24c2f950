//! Plans and events as text, JSON, DOT.
