//! Plans and events as people and programs get them.

mod event_goldens;
mod graph_goldens;
mod json_goldens;
mod properties;
mod samples;
mod terraform;
mod text_goldens;
