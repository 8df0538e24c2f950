//! Plans and events as people and programs get them.

mod json_goldens;
mod real;
mod samples;
mod terraform;
mod text_goldens;
