//! The rules, by what they are about.

pub(super) mod leave;
pub(super) mod look;
pub(super) mod make;
pub(super) mod ready;
pub(super) mod repeat;
pub(super) mod unmake;
