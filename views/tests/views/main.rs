//! Plans and events as people and programs get them.

mod samples;
mod text_goldens;
