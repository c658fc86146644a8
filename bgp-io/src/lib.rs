//! Runs bgp-core sessions over TCP: listener, connector, writer, timers, MD5, GTSM.
