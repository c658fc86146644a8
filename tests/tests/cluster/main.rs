//! On a real Kubernetes cluster.

mod bed;
