//! BGP without I/O.
