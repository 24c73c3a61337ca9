//! The command line: one file a command.

pub mod args;
pub mod check;
pub mod config;
pub mod demo;
