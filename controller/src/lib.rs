//! The command megalos: labs, placement, the local mode.

pub mod lab;
pub mod placement;
pub mod sandbox;
