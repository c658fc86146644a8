//! A whole fabric in one thread and in virtual time, from one seed.
//!
//! Real: sessions and RIBs of reflectors and workers, the workers' EVPN engines, the dataplane's plan, the kernels in memory.
//! Simulated: TCP streams, the clock, the container runtime, pods. The main loops of the daemons are followed step by step.
//!
//! ```text
//!   scenario ──disturbs──► fabric ──one happening after the other──► speakers, workers, kernels
//!      └──asks──► oracle ◄──looks at── kernels, RIBs, truth
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`random`] | every choice |
//! | [`clock`] | virtual time and what is to come |
//! | [`link`] | links and TCP streams |
//! | [`speaker`] | sessions and RIB of one process |
//! | [`worker`] | a worker process, and the machine that outlives it |
//! | [`fabric`] | all of them, and what is true |
//! | [`oracle`] | what must hold |
//! | [`scenario`] | a run |
//! | [`seeds`] | runs by the number, and runs that once failed |
//! | [`trace`] | what happened, for people |

pub mod clock;
pub mod fabric;
pub mod link;
pub mod oracle;
pub mod random;
pub mod scenario;
pub mod seeds;
pub mod speaker;
pub mod trace;
pub mod worker;
