//! On a real Kubernetes cluster; Megalos in it is seen as its users see it, by kubectl.

mod bad_input;
mod bed;
mod first_lan;
mod manifests;
mod many_pods;
mod nodes;
mod pods;
mod worker;
