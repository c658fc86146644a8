//! What a worker's process may do: what `megalos-speaker init` prepares, and what is left of its rights when it runs.

use std::fs;

use nix::sys::signal::Signal;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::host::Host;
use tests::overlay::{Worker, init_arguments};
use tests::{programs, wait};

/// CAP_NET_ADMIN as /proc shows it.
const NET_ADMIN: &str = "0000000000001000";
const NOTHING: &str = "0000000000000000";

/// What `/proc` says of a right of every thread of a process: name of the set, and its content.
fn rights(pid: u32) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("{error}")).flatten() {
        // A thread may end meanwhile.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.split_once(":\t"));
        found.extend(
            lines
                .filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs")
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
    }
    found
}

/// Every thread has NET_ADMIN and can get nothing else.
fn assert_confined(pid: u32) {
    let rights = rights(pid);
    let wanted = [
        ("CapInh", NOTHING),
        ("CapPrm", NET_ADMIN),
        ("CapEff", NET_ADMIN),
        ("CapBnd", NET_ADMIN),
        ("CapAmb", NOTHING),
        ("NoNewPrivs", "1"),
    ];
    // The main thread, the runtime's, the dataplane's, the log's, the CNI socket's.
    assert!(rights.len() >= 5 * wanted.len(), "{rights:?}");
    for (name, value) in wanted {
        let of_threads: Vec<_> = rights.iter().filter(|(found, _)| found == name).collect();
        assert_eq!(of_threads.len() * wanted.len(), rights.len(), "{name} in {rights:?}");
        assert!(of_threads.iter().all(|(_, found)| found == value), "{name} is not {value} everywhere: {rights:?}");
    }
}

/// Makes the kernel drop notifications for the worker: it is held while more happen in its namespace than its socket takes.
fn overrun(worker: &Worker) {
    let before = worker.host.log("megalos-speaker").matches("dropped notifications").count();
    let lines = worker.host.directory().join("many");
    let text: String = (0..80_000).map(|number| format!("link set dev vx{LAN} alias a{}\n", number % 2)).collect();
    fs::write(&lines, text).unwrap_or_else(|error| panic!("{error}"));
    worker.host.signal(worker.pid(), Signal::SIGSTOP);
    worker.overlay_sh(&format!("ip -batch {}", lines.display()));
    worker.host.signal(worker.pid(), Signal::SIGCONT);
    wait::until_true("the worker to notice what it lost", || {
        worker.host.log("megalos-speaker").matches("dropped notifications").count() > before
    });
}

#[test]
fn a_worker_without_any_right_but_net_admin_does_all_its_work() {
    let mut fabric = Fabric::empty(Family::V4);
    fabric.add_reflector(1);
    fabric.add_worker(0, &[]);
    let host = fabric.host("pod", 12);
    let flags = ["--vtep", "10.0.0.12", "--reflector", "10.0.0.1:1179", "--drop-capabilities"];
    let mut worker = Worker::in_pod(host, &flags);
    worker.wait_established();
    assert_confined(worker.pid());
    let [here, there, late, other] = ["here", "there", "late", "other"].map(Host::new);
    fabric.workers[0].attach(&there, LAN, MACS[0], "192.168.1.1/24");
    worker.attach(&here, LAN, MACS[1], "192.168.1.2/24");
    here.wait_pings("192.168.1.1");
    overrun(&worker);
    worker.attach(&late, LAN + 1, MACS[2], "192.168.2.2/24");
    fabric.workers[0].attach(&other, LAN + 1, MACS[3], "192.168.2.1/24");
    worker.wait_row(LAN + 1, MACS[3], Some([10, 0, 0, 11].into()));
    assert!(here.pings("192.168.1.1"), "an overrun cost a flow");
    worker.detach(&late);
    wait::until_true("the LAN to go with its member", || !worker.has_device(&format!("br{}", LAN + 1)));
    // A next life takes over what the first one left.
    worker.kill(Signal::SIGTERM);
    assert!(here.pings("192.168.1.1"), "the dataplane stays");
    worker.restart();
    worker.wait_established();
    assert!(here.pings("192.168.1.1"));
    assert_confined(worker.pid());
    assert!(!worker.host.log("megalos-speaker").contains("cannot"), "{}", worker.host.log("megalos-speaker"));
}

#[test]
fn a_process_that_may_not_give_up_its_rights_does_not_run_with_them() {
    let fabric = Fabric::empty(Family::V4);
    let host = fabric.host("w", 11);
    let program = programs::path("megalos-speaker").display().to_string();
    let overlay = init_arguments(&host)[6].clone();
    let bounds = "--bounding-set=-all,+net_admin,+sys_admin";
    let own =
        ["--vtep", "10.0.0.11", "--reflector", "10.0.0.1", "--drop-capabilities", "--overlay-namespace", &overlay];
    let output = host.run("setpriv", &[&[bounds, &program], &own[..]].concat());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot give up capabilities") && text.contains("SETPCAP"), "{text}");
}

#[test]
fn a_pinned_namespace_is_kept_and_one_that_a_reboot_left_as_a_file_is_made_again() {
    let host = Host::new("node");
    let arguments = init_arguments(&host);
    let program = programs::path("megalos-speaker");
    let pin = format!("/run/netns/{}", arguments[6]);
    fs::write(&pin, "").unwrap_or_else(|error| panic!("{error}"));
    let prepare = || {
        let output = host.run(&program, &arguments.each_ref().map(String::as_str));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let inside = |line: &str| host.try_sh(&format!("ip netns exec {} {line}", arguments[6]));
    prepare();
    let setting = inside("sysctl -n net.ipv6.conf.default.addr_gen_mode");
    assert_eq!(String::from_utf8_lossy(&setting.stdout).trim(), "1");
    assert!(host.directory().join("plugins/megalos").is_file());
    assert!(inside("ip link add mark type bridge").status.success());
    prepare();
    assert!(inside("ip link show mark").status.success(), "the devices of running pods are in it");
    host.sh(&format!("umount {pin}"));
    prepare();
    assert!(!inside("ip link show mark").status.success());
    assert!(inside("true").status.success());
}

#[test]
fn a_pin_that_the_host_would_not_see_is_refused_and_one_that_it_sees_outlives_the_container() {
    let host = Host::new("node");
    let arguments = init_arguments(&host);
    let line = format!("{} {}", programs::path("megalos-speaker").display(), arguments.join(" "));
    let pinned = || host.try_sh(&format!("ip netns exec {} true", arguments[6])).status.success();
    for propagation in ["private", "slave"] {
        let output = host.try_sh(&format!("unshare --mount --propagation {propagation} {line}"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("Bidirectional"), "{propagation}: {text}");
        assert!(!pinned());
    }
    host.sh(&format!("unshare --mount --propagation unchanged {line}"));
    assert!(pinned(), "the mount namespace that made it is gone");
}
