//! The Megalos route reflector.

pub mod settings;
