//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler.

use std::path::PathBuf;

use super::binaries::KUBERNETES;
use super::debian::Debian;
use super::keeper::Keeper;
use super::network::{self, API_PORT, API_SERVICE, Families, PODS, ROUTER, SERVICES};
use super::pki::{self, Pki};
use super::process::until;
use super::{Result, kubectl};

const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
/// How long a node may be silent before it is NotReady: somewhat less than the default of 50 s. Kubelets of a machine that
/// is busy with other things are silent for ten seconds at times.
const GRACE: &str = "40s";

/// The keys and kubeconfigs that all of the cluster needs.
pub fn issue(pki: &Pki, families: Families) -> Result<()> {
    let dns = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let mut addresses = families.router();
    addresses.extend(["127.0.0.1", API_SERVICE].map(str::to_owned));
    pki.issue("apiserver", "/CN=kube-apiserver", &pki::names(&dns, &addresses))?;
    pki.issue("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet", &[])?;
    let server = network::server();
    pki.kubeconfig("admin", "/O=system:masters/CN=admin", &server)?;
    for name in [CONTROLLER_MANAGER, SCHEDULER] {
        pki.kubeconfig(name, &format!("/CN=system:{name}"), &server)?;
    }
    pki.kubeconfig("kube-proxy", "/CN=system:kube-proxy", &server)?;
    Ok(())
}

/// Starts etcd and the API; does not wait until they answer.
pub fn start_api(keeper: &Keeper, debian: &Debian) -> Result<()> {
    if keeper.spawned(ETCD).is_none() {
        let data = keeper.directory().join("etcd");
        let arguments = [
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ];
        keeper.spawn(ETCD, &debian.program("etcd")?, &arguments)?;
    }
    if keeper.spawned(APISERVER).is_none() {
        keeper.spawn(APISERVER, &KUBERNETES.program(APISERVER)?, &api_arguments(keeper))?;
    }
    Ok(())
}

/// Ends the API at once; etcd stays.
pub fn stop_api(keeper: &Keeper) -> Result<()> {
    keeper.spawned(APISERVER).map_or(Ok(()), |process| process.end())
}

/// Waits until the API answers.
pub fn wait_ready(keeper: &Keeper) -> Result<()> {
    until("the API to be ready", || {
        if keeper.spawned(APISERVER).is_none() {
            return Ok(Err(format!("kube-apiserver ended; see {}/logs", keeper.directory().display())));
        }
        kubectl::run(keeper, &["get", "--raw", "/readyz"]).map(|_| Ok(()))
    })?
}

/// Starts the controllers and the scheduler, which want an API that answers.
pub fn start_controllers(keeper: &Keeper) -> Result<()> {
    let pki = pki_of(keeper);
    let file = |name: &str| pki.file(name).display().to_string();
    let access = |name: &str| {
        let path = file(&format!("{name}.kubeconfig"));
        ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"].map(|flag| format!("--{flag}={path}"))
    };
    let mut arguments = access(CONTROLLER_MANAGER).to_vec();
    arguments.extend([
        format!("--service-account-private-key-file={}", file("accounts.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        format!("--cluster-signing-cert-file={}", file("ca.crt")),
        format!("--cluster-signing-key-file={}", file("ca.key")),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        format!("--cluster-cidr={PODS}"),
        format!("--node-monitor-grace-period={GRACE}"),
        "--node-monitor-period=2s".to_owned(),
        format!("--cert-dir={}", keeper.directory().join("certificates").display()),
    ]);
    keeper.spawn(CONTROLLER_MANAGER, &KUBERNETES.program(CONTROLLER_MANAGER)?, &arguments)?;
    let mut arguments = access(SCHEDULER).to_vec();
    arguments.push("--leader-elect=false".to_owned());
    keeper.spawn(SCHEDULER, &KUBERNETES.program(SCHEDULER)?, &arguments)?;
    Ok(())
}

/// Where the cluster's keys are.
pub fn pki_of(keeper: &Keeper) -> Pki {
    Pki::at(keeper.directory().join("pki"))
}

/// The administrator's kubeconfig, for use on the underlay.
pub fn kubeconfig(keeper: &Keeper) -> PathBuf {
    pki_of(keeper).file("admin.kubeconfig")
}

fn api_arguments(keeper: &Keeper) -> Vec<String> {
    let pki = pki_of(keeper);
    let file = |name: &str| pki.file(name).display().to_string();
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=::".to_owned(),
        format!("--secure-port={API_PORT}"),
        format!("--advertise-address={ROUTER}"),
        format!("--cert-dir={}", keeper.directory().join("certificates").display()),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--kubelet-client-certificate={}", file("apiserver-kubelet.crt")),
        format!("--kubelet-client-key={}", file("apiserver-kubelet.key")),
        // The others need a DNS that knows the nodes.
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]
}
