//! A lab on one machine: nodes, reflectors and devices without a cluster.
//!
//! `megalos up` starts one *supervisor* per lab, process 1 of a PID namespace
//! with mount and network namespaces of its own. Whatever belongs to the lab is
//! below it, so the kernel removes all of it when the supervisor goes; only the
//! state directory is left, and recognised as dead.
//!
//! ```text
//!  megalos up ──► supervisor ─┬─ underlay (bridge)
//!      ▲  events              ├─ rr1      reflector process, own network namespace
//!      └──────────            ├─ node1    worker process,    own network namespace
//!  megalos exec ◄─ control ─► ├─ node2    …
//!                  socket     └─ devices  sandboxes, attached through their node's worker
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`plan`] | who runs where, VNIs |
//! | [`state`], [`process`] | the state directory; whether a lab is alive |
//! | [`supervisor`], [`namespaces`] | the supervisor's birth and course |
//! | [`underlay`], [`nodes`], [`daemons`] | the network of nodes, workers and reflectors |
//! | [`kernel`] | what the kernel lacks for the lab |
//! | [`running`], [`status`], [`scripts`], [`packages`], [`check`] | what runs, and how it is |
//! | [`control`], [`server`], [`select`] | commands and supervisor talking |
//! | [`up`], [`exec`], [`down`], [`inspect`] | the commands |

pub mod check;
pub mod control;
pub mod daemons;
pub mod down;
pub mod exec;
pub mod inspect;
pub mod kernel;
pub mod namespaces;
pub mod neighbours;
pub mod netns;
pub mod nodes;
pub mod packages;
pub mod parallel;
pub mod plan;
pub mod process;
pub mod progress;
pub mod running;
pub mod scripts;
pub mod select;
pub mod server;
pub mod spec;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod terminal;
pub mod underlay;
pub mod up;
