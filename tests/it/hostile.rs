//! Hostile clients against the real process: what each attack costs the gateway in memory and CPU time for the bytes
//! that it takes, and what a well-behaved sender notices of it. `SPANGATE_HOSTILE=full` makes the attacks long and
//! prints a row of figures for each (`--nocapture --test-threads 1`); `SPANGATE_HOSTILE_BINARY` names a release build.

mod bodies;
mod control;
mod figures;
mod flapping;
mod floods;
mod frames;
mod good;
mod heads;
mod places;
mod priority;
mod rounds;
mod scene;
mod slow;
mod smuggling;
mod soak;
mod tokens;
mod usage;
mod wire;
