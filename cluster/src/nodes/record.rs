//! What is kept of a Node object.

use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use super::VTEP_ANNOTATION;

/// Addresses of a Node that are looked at.
const MAX_ADDRESSES: usize = 16;
/// Characters of a text that are looked at: more than any address has.
const MAX_TEXT: usize = 64;

/// What is kept of a Node object: only what says who it is, so that its heartbeats change nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was created, in seconds since 1970.
    pub created_secs: i64,
    /// Its addresses of type InternalIP, as given.
    pub internal_ips: Vec<String>,
    /// Its annotation [`VTEP_ANNOTATION`].
    pub vtep: Option<String>,
    /// Whether it runs Linux; a Node that does not say does.
    pub is_linux: bool,
}

impl NodeRecord {
    /// Of this object.
    pub fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let meta = &node.metadata;
        let annotation = meta.annotations.as_ref().and_then(|annotations| annotations.get(VTEP_ANNOTATION));
        let label = meta.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
        let mut internal_ips: Vec<_> =
            internal.take(MAX_ADDRESSES).map(|address| shortened(&address.address)).collect();
        internal_ips.sort();
        internal_ips.dedup();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            created_secs: meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second()),
            internal_ips,
            vtep: annotation.map(|text| shortened(text)),
            is_linux: label.is_none_or(|os| os == "linux"),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(node: serde_json::Value) -> NodeRecord {
        NodeRecord::of(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn of_a_node_only_what_says_who_it_is_is_kept() {
        let node = |heartbeat: &str, addresses: serde_json::Value| {
            serde_json::json!({
                "metadata": {
                    "name": "n1", "uid": "u1", "creationTimestamp": "1970-01-01T00:01:00Z", "resourceVersion": heartbeat,
                    "annotations": {"megalos.dev/vtep": "192.0.2.1", "other": "x"},
                    "labels": {"kubernetes.io/os": "linux"},
                },
                "status": {
                    "addresses": addresses,
                    "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
                },
            })
        };
        let addresses = serde_json::json!([
            {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "2001:db8::1"},
            {"type": "ExternalIP", "address": "198.51.100.1"},
            {"type": "InternalIP", "address": "10.0.0.1"},
        ]);
        let kept = record(node("1", addresses));
        assert_eq!(
            kept,
            NodeRecord {
                name: "n1".into(),
                uid: "u1".into(),
                created_secs: 60,
                internal_ips: vec!["10.0.0.1".into(), "2001:db8::1".into()],
                vtep: Some("192.0.2.1".into()),
                is_linux: true,
            }
        );
        let reordered = serde_json::json!([
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "2001:db8::1"},
        ]);
        assert_eq!(record(node("2", reordered)), kept);
    }

    #[test]
    fn a_node_may_say_nothing_or_too_much() {
        let bare = record(serde_json::json!({"metadata": {"name": "n1"}}));
        assert!(bare.internal_ips.is_empty() && bare.vtep.is_none() && bare.is_linux);
        let windows = record(serde_json::json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}}));
        assert!(!windows.is_linux);
        let address = |n| serde_json::json!({"type": "InternalIP", "address": format!("{n}{}", "x".repeat(10_000))});
        let addresses: Vec<_> = (0..10_000).map(address).collect();
        let long = record(serde_json::json!({"metadata": {}, "status": {"addresses": addresses}}));
        assert!(long.internal_ips.len() <= MAX_ADDRESSES && long.internal_ips.iter().all(|ip| ip.len() <= MAX_TEXT));
    }
}
