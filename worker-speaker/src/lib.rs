//! The Megalos worker speaker: local MACs become routes, routes become FDB rows.

pub mod settings;
