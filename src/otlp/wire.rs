//! The protobuf wire format, read strictly: varints, tags, lengths. It never allocates and never
//! looks past the slice that it was given.
