//! One file per group of rows.

pub mod catch_up;
pub mod growth;
pub mod line;
pub mod mine;
pub mod read;
pub mod start;
pub mod tutorial;
