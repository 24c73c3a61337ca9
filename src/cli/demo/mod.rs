//! `spangate demo`: authority, gateway and collector on loopback, and what becomes of seven exports.

/// Runs the demo; `once` ends after the table. The result is the process's exit code: 0 only if every outcome was as designed.
pub async fn run(_once: bool) -> anyhow::Result<u8> {
    unimplemented!()
}
