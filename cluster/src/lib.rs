//! What the daemons learn from Kubernetes and tell it.
