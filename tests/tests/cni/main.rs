//! The plugin `megalos-cni` as a runtime executes it, against a real worker, with real pods' namespaces.

mod cnitool;
mod disturbed;
mod gc;
mod input;
mod ipam;
mod runtime;
mod verbs;
