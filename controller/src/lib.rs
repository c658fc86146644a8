//! The command megalos: labs, placement, the local mode.
