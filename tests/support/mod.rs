//! What the black-box tests share. Each test file uses its own part of it.
//!
//! `tutorial` is a stand-in for a node of the original JavaScript program.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod js;
pub mod tutorial;
