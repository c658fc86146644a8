//! What a host may refuse, and what the error tells to do about it.

use std::fs;
use std::process::Command;

use controller::sandbox::Device;

use crate::support::{NOBODY, as_user, check, contains, is_real_root, spec};

/// What `Device::create` says when it is refused.
fn refusal(name: &str) -> String {
    Device::create(&spec(name)).map(|_| ()).expect_err("it is refused").to_string()
}

#[test]
fn a_user_without_rights_is_told_what_to_allow() {
    let mut command = if is_real_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        command.arg(std::env::current_exe().expect("the test program has a path"));
        command
    } else {
        Command::new(std::env::current_exe().expect("the test program has a path"))
    };
    let output = command
        .args(["--ignored", "--exact", "--nocapture", "privileges::without_rights"])
        .output()
        .expect("setpriv of util-linux is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "a_user_without_rights_is_told_what_to_allow runs it"]
fn without_rights() {
    let error = refusal("weak");
    for part in ["device weak", "run as root", "kernel.unprivileged_userns_clone"] {
        check(contains(&error, part));
    }
}

#[test]
fn an_exhausted_number_of_namespaces_is_told() {
    as_user("sandbox::privileges::as_user", "no_namespace_is_left");
}

mod inside {
    /// The limit belongs to the user namespace, so the machine's stays.
    #[test]
    #[ignore = "an_exhausted_number_of_namespaces_is_told runs it in a user namespace"]
    fn no_namespace_is_left() {
        super::fs::write("/proc/sys/user/max_net_namespaces", "0").expect("it is ours");
        super::check(super::contains(&super::refusal("many"), "raise user.max_net_namespaces"));
    }
}
