//! The claims of a job token, readable only after a 200 for exactly these bytes.
