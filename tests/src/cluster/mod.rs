//! A real Kubernetes cluster on this machine, without Docker, a registry or a change to the machine.
//!
//! | module | owns |
//! | --- | --- |
//! | [`image`] | our own image as it is shipped, and the examples' |
//! | [`oci`] | container images made of files that exist already |

pub mod image;
pub mod oci;
