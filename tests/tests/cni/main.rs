//! The plugin `megalos-cni` as a runtime executes it, against a real worker, with real pods' namespaces.

mod disturbed;
mod input;
mod ipam;
mod runtime;
mod verbs;
