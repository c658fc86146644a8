//! The testbed: hosts made of network namespaces, real peers on them, our own daemons as the processes users run.
//!
//! | module | owns |
//! | --- | --- |
//! | [`host`] | a namespace with its interfaces and processes, and the underlay that joins hosts |
//! | [`programs`] | our own programs, built once, and packages of the system, installed when missing |
//! | [`frr`] | FRR daemons on a host |
//! | [`overlay`] | workers, reflectors and devices on hosts |
//! | [`wait`] | waiting for a condition, never for a time |
//!
//! Everything is released when its value is dropped; what a killed run left behind is removed by the next one. The suites
//! need root and say so.

pub mod frr;
pub mod host;
pub mod overlay;
pub mod programs;
pub mod wait;
