//! The RFC 4271 session state machine, without I/O.
