//! The configuration files of a node: containerd, kubelet, kube-proxy, the primary network.

use serde_json::{Value, json};

use super::network::PODS;

/// The name of the image of every pod's own container.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10";
/// What a node may run; the usual 110 is little for tests of many pods on few nodes.
const MAX_PODS: u32 = 250;

/// containerd's, for runc without systemd.
pub fn containerd() -> String {
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

/// kubelet's; `group` is the control group of all the node's pods.
pub fn kubelet(group: &str) -> Value {
    let none = json!({ "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
        "imagefs.available": "0%", "imagefs.inodesFree": "0%", "pid.available": "0%" });
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": "/etc/kubernetes/ca.crt" },
        },
        "authorization": { "mode": "Webhook" },
        // There is no DNS here; without an address of one every pod gets a warning.
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        // Whatever the machine's disk holds, nothing is evicted for it, and no image is removed.
        "evictionHard": none,
        "imageGCHighThresholdPercent": 100,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "maxPods": MAX_PODS,
        "nodeStatusUpdateFrequency": "3s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 12,
        "registerNode": true,
        "resolvConf": "",
        "serializeImagePulls": false,
        "syncFrequency": "10s",
        "shutdownGracePeriod": "0s",
    })
}

/// kube-proxy's: nftables, without limits that only the machine itself may set.
pub fn kube_proxy(node: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node,
        "clusterCIDR": PODS,
        "clientConnection": { "kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig" },
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "nftables": { "minSyncPeriod": "0s", "syncPeriod": "30s" },
    })
}

/// The primary network: one plugin, not a list of them, since Multus passes on the whole configuration of one alone.
pub fn primary_network(pods: &str) -> Value {
    json!({
        "cniVersion": "0.3.1",
        "name": "primary",
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": true,
        "hairpinMode": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{ "subnet": pods }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    })
}
