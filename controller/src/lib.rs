//! The command megalos: labs, placement, the local mode.

pub mod cli;
pub mod lab;
pub mod local;
pub mod placement;
pub mod sandbox;
