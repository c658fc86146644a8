//! The Megalos route reflector.
