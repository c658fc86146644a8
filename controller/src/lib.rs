//! The command megalos: labs, placement, the local mode.

pub mod lab;
pub mod sandbox;
