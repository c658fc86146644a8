//! What a device is kept apart from, and that nothing of it stays.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio as CommandStdio};
use std::time::Instant;

use controller::sandbox::Device;

use crate::support::{TestResult, contains, eventually, output, same, spec};

as_root_and_as_user!(
    a_device_has_its_own_name_and_processes,
    two_devices_see_nothing_of_each_other,
    dropping_a_device_leaves_no_process_and_no_mount,
    devices_are_made_in_parallel_by_several_threads,
    process_one_reaps_orphans,
    the_hosts_services_do_not_show,
    every_network_namespace_is_new,
);

fn a_device_has_its_own_name_and_processes() -> TestResult {
    let device = Device::create(&spec("r1_a"))?;
    same(device.warnings(), &[] as &[String])?;
    same(output(&device, "hostname")?, "r1_a")?;
    same(output(&device, "cat /etc/hostname")?, "r1_a")?;
    contains(&output(&device, "cat /etc/hosts")?, "127.0.1.1\tr1_a")?;
    // Process 1, the shell and ls.
    let processes = output(&device, "ls /proc | grep -c '^[0-9]'")?;
    if processes.parse::<u32>()? > 5 {
        return Err(format!("{processes} processes are seen inside").into());
    }
    contains(&output(&device, "tr '\\0' ' ' < /proc/1/cmdline")?, "__device-init r1_a")
}

fn two_devices_see_nothing_of_each_other() -> TestResult {
    let (one, two) = (Device::create(&spec("one"))?, Device::create(&spec("two"))?);
    output(
        &one,
        "echo mine > /etc/mine; echo mine > /tmp/mine; echo mine > /root/mine; ip link add d0 type veth peer name d1",
    )?;
    same(output(&two, "ls /etc/mine /tmp/mine /root/mine 2>/dev/null; ip -br link show d0 2>/dev/null")?, "")?;
    same(fs::exists("/etc/mine")?, false)?;
    same(output(&one, "cat /etc/mine")?, "mine")?;
    contains(&output(&one, "ls /sys/class/net")?, "d0")?;
    same(output(&two, "hostname other; hostname")?, "other")?;
    same(output(&one, "hostname")?, "one")
}

fn dropping_a_device_leaves_no_process_and_no_mount() -> TestResult {
    let mounts = || {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounts.lines().filter(|line| line.contains("megalos-")).count()
    };
    let before = mounts();
    let device = Device::create(&spec("gone"))?;
    let duration = format!("86399.{}", std::process::id());
    output(&device, &format!("for n in 1 2; do setsid sleep {duration} </dev/null >/dev/null 2>&1 & done"))?;
    let sleeping = || {
        let wanted = format!("sleep\0{duration}\0");
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter(|process| fs::read_to_string(process.path().join("cmdline")).is_ok_and(|line| line == wanted))
            .count()
    };
    eventually("both daemons run", || sleeping() == 2)?;
    let process_one = device.process_one();
    drop(device);
    same(sleeping(), 0)?;
    same(fs::exists(format!("/proc/{process_one}"))?, false)?;
    same(mounts(), before)
}

fn devices_are_made_in_parallel_by_several_threads() -> TestResult {
    let began = Instant::now();
    let devices: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || Device::create(&spec(&format!("pc{n}"))))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    println!("8 devices in {:?}", began.elapsed());
    let mut ids = BTreeSet::new();
    for (number, device) in devices.into_iter().enumerate() {
        let device = device?;
        same(output(&device, "hostname")?, format!("pc{number}"))?;
        ids.insert(device.process_one());
    }
    same(ids.len(), 8)
}

fn process_one_reaps_orphans() -> TestResult {
    let device = Device::create(&spec("reaper"))?;
    output(&device, "for n in 1 2 3 4 5; do (sleep 0.01 &) ; done; sleep 0.1")?;
    eventually("no zombie is left", || {
        output(&device, "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l").is_ok_and(|count| count == "0")
    })
}

fn the_hosts_services_do_not_show() -> TestResult {
    let device = Device::create(&spec("clean"))?;
    same(output(&device, "find /var/log -type f; ls /run/systemd/system /etc/frr/frr.conf 2>/dev/null")?, "")?;
    same(output(&device, "cat /etc/frr/vtysh.conf")?, "no service integrated-vtysh-config")?;
    contains(&output(&device, "cat /etc/frr/daemons")?, "bgpd=no")?;
    contains(&output(&device, "stat -c '%a %U' /etc/frr/daemons /etc/frr/vtysh.conf")?, "640")?;
    same(output(&device, "cut -d: -f2 /etc/shadow | sort -u")?, "*")?;
    same(
        output(
            &device,
            "cat /etc/resolv.conf; find /etc/cron.d /var/tmp /var/mail -mindepth 1; ls /etc/ssh/ssh_host* 2>/dev/null",
        )?,
        "",
    )?;
    same(output(&device, "cat /proc/mounts | grep -c megalos-host/")?.parse::<u32>()? > 0, true)?;
    same(output(&device, "ls -a / | grep megalos")?, "")
}

fn every_network_namespace_is_new() -> TestResult {
    let device = Device::create(&spec("net"))?;
    let name = output(&device, "readlink /proc/self/ns/net")?;
    same(fs::read_link("/proc/self/ns/net")?.display().to_string() == name, false)?;
    contains(&output(&device, "ip -br link")?, "lo")?;
    same(output(&device, "ip -br link | wc -l")?, "1")?;
    contains(&output(&device, "ip link show lo")?, "UP")?;
    contains(&output(&device, "ping -c 1 -W 5 127.0.0.1")?, "1 received")
}

/// Not in a PID namespace of its own, so that only the device's own watch of
/// its caller can end it.
#[test]
fn a_device_ends_when_its_caller_is_killed() {
    if !crate::support::is_real_root() {
        return as_caller_in_user_namespace();
    }
    let mut caller = Command::new(std::env::current_exe().expect("the test program has a path"));
    caller.args(["--ignored", "--exact", "--nocapture", "isolation::a_caller_that_waits"]);
    ends_with(caller);
}

fn as_caller_in_user_namespace() {
    let mut caller = Command::new("unshare");
    caller.args(["--user", "--map-root-user"]).arg(std::env::current_exe().expect("the test program has a path"));
    caller.args(["--ignored", "--exact", "--nocapture", "isolation::a_caller_that_waits"]);
    ends_with(caller);
}

fn ends_with(mut caller: Command) {
    let mut caller = caller.stdout(CommandStdio::piped()).spawn().expect("the test program runs");
    let lines = BufReader::new(caller.stdout.take().expect("a pipe")).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("process one: ").map(str::to_owned))
        .expect("the caller made a device");
    caller.kill().expect("it is ours");
    caller.wait().expect("it is ours");
    eventually("process 1 has ended", || {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).map_or(true, |line| !line.contains("__device-init"))
    })
    .expect("the device ends");
}

#[test]
#[ignore = "a_device_ends_when_its_caller_is_killed runs it"]
fn a_caller_that_waits() {
    let device = Device::create(&spec("orphan")).expect("a device");
    println!("process one: {}", device.process_one());
    loop {
        std::thread::park();
    }
}
