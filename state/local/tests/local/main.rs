//! The backend in a folder: the suite of all backends, and what can go wrong with files, disks and processes.

mod children;
mod disks;
mod fences;
mod formats;
mod goldens;
mod kills;
mod locks;
mod stack;
mod suite;
mod torn;
