//! The authority proper: one call to GitLab Rails.
