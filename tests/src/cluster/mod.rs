//! A real Kubernetes cluster on this machine, without Docker, a registry or a change to the machine.
//!
//! | module | owns |
//! | --- | --- |
//! | [`oci`] | container images made of files that exist already |

pub mod oci;
