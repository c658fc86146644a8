//! Pods and definitions of LANs, as text for kubectl.

use serde_json::{Value, json};
use tests::cluster::images::TOOLS;

/// A NetworkAttachmentDefinition with this configuration.
pub fn definition(name: &str, config: &Value) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name },
        "spec": { "config": config.to_string() },
    })
}

/// A LAN that is nothing but a VNI.
pub fn lan(name: &str, vni: u32) -> Value {
    definition(name, &json!({ "cniVersion": "1.1.0", "type": "megalos", "vni": vni }))
}

/// A pod that waits, with these networks in its annotation.
pub fn pod(name: &str, networks: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "annotations": { "k8s.v1.cni.cncf.io/networks": networks.to_string() },
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "shell", "image": TOOLS, "imagePullPolicy": "Never", "command": ["sleep", "infinity"] }],
        },
    })
}

/// Several objects as one text.
pub fn list(items: Vec<Value>) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}
