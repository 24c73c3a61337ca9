//! Failed attempts per client address.
