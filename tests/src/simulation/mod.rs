//! A whole fabric in one thread and in virtual time, from one seed.
//!
//! Real: sessions and RIBs of reflectors and workers, the workers' cores as their daemon runs them (engine, ports, adoption,
//! audits, forwarding rows), the dataplane's plan, the kernels in memory. Simulated: TCP streams, clocks, the container
//! runtime, pods, and the threads that carry out what a core wants done. See `docs/simulation.md`.
//!
//! ```text
//!   seed ──generate──► scenario ──run──► fabric ──one happening after the other──► speakers, workers, kernels
//!                         ▲               │ asks
//!                       shrink            ▼
//!                         └── violation ◄── oracle, frames, returns, probes ◄──look at── kernels, RIBs, truth
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | [`random`] | every choice |
//! | [`clock`] | virtual time and what is to come |
//! | [`link`] | links and TCP streams |
//! | [`speaker`] | sessions and RIB of one process |
//! | [`worker`] | a worker process around its core, and the machine that outlives it |
//! | [`fabric`] | all of them, and the order in which things happen |
//! | [`truth`] | what is true, whatever processes believe |
//! | [`scenario`], [`generate`] | what happens, as text and from a seed |
//! | [`run`], [`probe`] | a scenario carried out, and the questions it asks |
//! | [`oracle`], [`frames`], [`returns`] | what must hold |
//! | [`shrink`], [`seeds`] | what fails made small; runs by the number; what once failed |
//! | [`sabotage`] | mistakes put in, to see that they are found |
//! | [`trace`] | what happened, for people |

pub mod clock;
pub mod fabric;
pub mod frames;
pub mod generate;
pub mod honesty;
pub mod link;
pub mod oracle;
pub mod probe;
pub mod random;
pub mod returns;
pub mod run;
pub mod sabotage;
pub mod scenario;
pub mod seeds;
pub mod shrink;
pub mod speaker;
pub mod trace;
pub mod truth;
pub mod worker;
