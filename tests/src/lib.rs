//! The testbed: hosts made of network namespaces, real peers on them, our own daemons as the processes users run.
//!
//! | module | owns |
//! | --- | --- |
//! | [`host`] | a namespace with its interfaces and processes, and the underlay that joins hosts |
//! | [`programs`] | our own programs, built once, and packages of the system, installed when missing |
//! | [`peers`] | other people's BGP daemons on hosts: FRR, GoBGP, BIRD, OpenBGPD |
//! | [`overlay`] | workers, reflectors and devices on hosts |
//! | [`fabric`] | reflectors and workers on one underlay, ready to use |
//! | [`rows`] | every change of the forwarding tables, as it happens |
//! | [`simulation`] | a whole fabric in one thread and in virtual time, from one seed |
//! | [`cluster`] | a real Kubernetes cluster: control plane, nodes, Multus, images |
//! | [`api_server`] | an API server that misbehaves on demand |
//! | [`handmade`] | LANs of bridges and VXLAN devices that no worker made |
//! | [`ping`] | flows of echo requests with an exact account of losses |
//! | [`frames`] | frames sent and seen on an interface |
//! | [`bgp`] | BGP by hand: any octets to a daemon, and its answers |
//! | [`catalogue`] | hostile input, row by row, and what must hold after each |
//! | [`http`] | the daemons' HTTP endpoints |
//! | [`inside`] | work of this process inside a host's namespace |
//! | [`wait`] | waiting for a condition, never for a time |
//!
//! Everything is released when its value is dropped; what a killed run left behind is removed by the next one. The suites
//! need root and say so.

pub mod api_server;
pub mod bgp;
pub mod catalogue;
pub mod cluster;
pub mod fabric;
pub mod frames;
pub mod handmade;
pub mod host;
pub mod http;
pub mod inside;
pub mod overlay;
pub mod peers;
pub mod ping;
pub mod programs;
pub mod rows;
pub mod simulation;
pub mod wait;
