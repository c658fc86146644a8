//! What every Megalos daemon has: configuration, HTTP endpoints, control socket, logging, signals.
