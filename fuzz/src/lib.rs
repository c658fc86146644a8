//! What the fuzz targets share: how an input is cut up, and the oracles.
//!
//! A target is a file in `fuzz_targets/` that hands its input to a function here. To add one: write the function in a
//! module of this crate, the file, its `[[bin]]` in `Cargo.toml`, and seeds in `corpus/<name>/`.
//! `scripts/test` finds and runs all targets for a while each; by hand, from the project's root:
//!
//! ```text
//! cargo +nightly fuzz run message_decode -- -max_total_time=60
//! ```

pub mod cni;
pub mod config;
pub mod control;
pub mod dialogue;
pub mod engine;
pub mod lab;
pub mod memory;
pub mod message;
pub mod mutate;
pub mod naive;
pub mod netlink;
pub mod octets;
pub mod plugin;
pub mod reflect;
pub mod rib;
pub mod session;
pub mod tree;
pub mod verdict;

/// What runs one input; a panic is a failure.
pub type Run = fn(&[u8]);

/// All targets by their names.
pub const TARGETS: [(&str, Run); 14] = [
    ("cni_plugin", plugin::run),
    ("cni_socket", cni::run),
    ("config_files", config::run),
    ("control_socket", control::run),
    ("evpn_engine", engine::run),
    ("lab_files", lab::run),
    ("message_decode", message::run),
    ("netlink_parse", netlink::run),
    ("reflected_octets", reflect::run),
    ("rib_history", rib::run),
    ("session_bytes", session::run),
    ("session_dialogue", dialogue::run),
    ("update_structure", message::run_update),
    ("update_verdict", verdict::run),
];
