//! Tokens listed in a file by digest.
