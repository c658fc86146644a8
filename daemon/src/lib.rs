//! What every Megalos daemon has: configuration, HTTP endpoints, control socket, logging, signals.
//!
//! | module | owns |
//! | --- | --- |
//! | [`config`] | the TOML schema that reflector and worker share, and how a whole file is checked |
//! | [`control`] | the Unix socket on which `megalos show` asks, client and server |
//! | [`descriptors`] | the limit of open files |
//! | [`show`] | the rows that are asked for, and their tables |
//! | [`http`] | `/metrics`, `/healthz`, `/readyz` |
//! | [`options`] | flags that both daemons have; settings at start and on reload |
//! | [`run`] | start-up and end of a process: logging, signals, exit codes |
//! | [`routes`] | rows of the RIB, attribute by attribute |
//! | [`service`] | all of these as one stream of requests to a main loop |
//! | [`speaker`] | peers from settings; rows and metrics from a [`bgp_io::Speaker`] |

pub mod config;
pub mod control;
pub mod descriptors;
pub mod http;
mod log_writer;
pub mod options;
pub mod routes;
pub mod run;
mod section;
pub mod service;
pub mod show;
pub mod speaker;
mod vnis;
