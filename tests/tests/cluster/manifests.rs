//! What a cluster's API says about the manifests, and what a worker's token is good for.

use tests::cluster::megalos::deploy;
use tests::cluster::with_megalos;

#[test]
fn an_api_server_takes_the_manifests_as_they_are_and_by_kustomize() {
    let cluster = with_megalos();
    let path = |path: &str| deploy(path).display().to_string();
    for arguments in [
        ["apply", "--dry-run=server", "-f", &path("install.yaml")],
        ["apply", "--dry-run=server", "-k", &path("")],
        ["apply", "--dry-run=server", "-f", &path("examples/two-pods.yaml")],
    ] {
        let printed = cluster.kubectl(&arguments);
        assert!(!printed.contains("Warning"), "{printed}");
    }
}

#[test]
fn applying_again_leaves_the_key_that_a_reflector_filled_in() {
    let cluster = with_megalos();
    let key =
        || cluster.kubectl(&["-n", "megalos-system", "get", "secret", "megalos-bgp", "-o", "jsonpath={.data.md5}"]);
    let before = key();
    assert!(!before.is_empty(), "no reflector filled in a key");
    cluster.apply_megalos().and_then(|()| cluster.wait_megalos()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(key(), before);
}

#[test]
fn a_worker_s_token_is_good_for_the_condition_of_its_own_node_alone() {
    let cluster = with_megalos();
    // kubectl reads what it patches, which a worker does not.
    let role = "clusterrole/read-node-status";
    let binding = "clusterrolebinding/read-node-status";
    cluster.kubectl(&["create", "clusterrole", "read-node-status", "--verb=get", "--resource=nodes/status"]);
    let subject = "--serviceaccount=megalos-system:megalos-worker";
    cluster.kubectl(&["create", "clusterrolebinding", "read-node-status", "--clusterrole=read-node-status", subject]);
    let condition = |kind: &str| {
        format!(
            r#"{{"status":{{"conditions":[{{"type":"{kind}","status":"False","reason":"Test","message":"test"}}]}}}}"#
        )
    };
    let address = r#"{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.99"}]}}"#;
    let annotation = r#"{"metadata":{"annotations":{"megalos.dev/vtep":"192.0.2.99"}}}"#;
    let cases = [
        ("node1", condition("MegalosReady"), None),
        ("node2", condition("MegalosReady"), Some("its own Node only")),
        ("node1", condition("Ready"), Some("MegalosReady only")),
        ("node1", address.to_owned(), Some("MegalosReady only")),
        ("node1", annotation.to_owned(), Some("MegalosReady only")),
    ];
    for (node, patch, refusal) in cases {
        let answer = cluster.try_kubectl(&[
            "--as=system:serviceaccount:megalos-system:megalos-worker",
            "--as-user-extra=authentication.kubernetes.io/node-name=node1",
            "patch",
            "node",
            node,
            "--subresource=status",
            "--dry-run=server",
            "--patch",
            &patch,
        ]);
        match refusal {
            None => assert!(answer.is_ok(), "{node}: {patch}: {answer:?}"),
            Some(words) => {
                assert!(answer.as_ref().is_err_and(|error| error.contains(words)), "{node}: {patch}: {answer:?}")
            }
        }
    }
    cluster.kubectl(&["delete", role, binding]);
}
