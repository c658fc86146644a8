//! The testbed (namespaces, real peers) and the suites that use it.
