//! On a real Kubernetes cluster; Megalos in it is seen as its users see it, by kubectl.

mod bed;
mod first_lan;
mod manifests;
mod nodes;
mod worker;
