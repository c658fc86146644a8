//! `systemctl`, `service` and `/etc/init.d` inside a device.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use controller::sandbox::Device;

use crate::support::{Scratch, TestResult, contains, eventually, output, run, same, shell, spec, start};

as_root_and_as_user!(
    every_way_of_asking_reaches_the_init_script,
    a_service_that_is_not_installed_names_its_package,
    names_of_the_same_service_are_one,
    frr_runs_in_several_devices_at_once,
);

/// With subordinate ids services run as their own users, without root.
#[test]
fn frr_runs_as_its_own_user_with_a_range_of_ids() {
    crate::support::as_user_with_range("sandbox::services::as_user", "frr_runs_in_several_devices_at_once");
}

const INIT_SCRIPT: &str = "#!/bin/sh
case $1 in
start) touch /run/toy; echo started ;;
stop) rm -f /run/toy; echo stopped ;;
restart) echo restarted; touch /run/toy ;;
status) test -e /run/toy && echo running ;;
*) exit 2 ;;
esac
";

fn with_service(device: &str, service: &str) -> Result<(Scratch, Device), Box<dyn Error>> {
    let lab = Scratch::new()?;
    let script = lab.write(&format!("etc/init.d/{service}"), INIT_SCRIPT)?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))?;
    let mut spec = spec(device);
    spec.lab_dir = Some(lab.path().to_owned());
    let device = Device::create(&spec)?;
    Ok((lab, device))
}

fn every_way_of_asking_reaches_the_init_script() -> TestResult {
    let (_lab, device) = with_service("asks", "toy")?;
    for (line, code, text) in [
        ("systemctl is-active toy", 3, "inactive"),
        ("systemctl start toy", 0, "started"),
        ("systemctl is-active toy.service", 0, "active"),
        ("systemctl status toy", 0, "running"),
        ("systemctl restart toy.service", 0, "restarted"),
        ("systemctl stop toy", 0, "stopped"),
        ("systemctl status toy", 1, ""),
        ("systemctl enable toy", 0, ""),
        ("systemctl enable --now toy", 0, "started"),
        ("systemctl is-enabled toy", 0, "enabled"),
        ("systemctl disable --now toy", 0, "stopped"),
        ("systemctl daemon-reload", 0, ""),
        ("service toy start", 0, "started"),
        ("service toy status", 0, "running"),
        ("/etc/init.d/toy stop", 0, "stopped"),
        ("systemctl frobnicate toy", 1, "systemctl frobnicate is not possible"),
        ("systemctl start", 1, "which service?"),
        ("service toy", 1, "what shall it do?"),
        ("ln -sf /usr/bin/systemctl /sbin/poweroff; poweroff", 1, "not possible"),
        ("systemctl start ../../bin/true", 4, "not the name of a service"),
    ] {
        let (status, output) = run(&device, &shell(line))?;
        same(status.code(), code).map_err(|error| format!("{line}: {error}: {output}"))?;
        contains(&output, text).map_err(|error| format!("{line}: {error}"))?;
    }
    Ok(())
}

fn a_service_that_is_not_installed_names_its_package() -> TestResult {
    let device = Device::create(&spec("lacks"))?;
    for line in ["systemctl start postfix", "service postfix start", "/etc/init.d/postfix start"] {
        let (status, output) = run(&device, &shell(line))?;
        same(status.code(), 5).map_err(|_| format!("{line}: {output}"))?;
        for part in ["device lacks", "\"postfix\"", "apt install postfix"] {
            contains(&output, part)?;
        }
    }
    let (status, output) = run(&device, &shell("systemctl start no-such-thing.service"))?;
    same(status.code(), 5)?;
    contains(&output, "no-such-thing")?;
    contains(&run(&device, &shell("/etc/init.d/zebra start"))?.1, "/etc/frr")
}

fn names_of_the_same_service_are_one() -> TestResult {
    let (_lab, device) = with_service("bind", "named")?;
    for name in ["bind9", "bind", "named", "bind9.service"] {
        let (status, output) = run(&device, &shell(&format!("systemctl restart {name}")))?;
        same(status.code(), 0).map_err(|_| format!("{name}: {output}"))?;
        contains(&output, "restarted")?;
    }
    same(run(&device, &shell("/etc/init.d/bind9 start"))?.0.code(), 0)
}

fn frr_runs_in_several_devices_at_once() -> TestResult {
    if !Path::new("/usr/lib/frr/zebra").exists() {
        return Err("this check needs FRR: apt install frr".into());
    }
    let mut devices = Vec::new();
    for number in 1..=3 {
        let lab = Scratch::new()?;
        lab.write("etc/frr/daemons", "zebra=yes\nbgpd=yes\nvtysh_enable=yes\n")?;
        let bgp = format!("router bgp {}\n bgp router-id 1.1.1.{number}\n", 65000 + number);
        // Labs bring one file per daemon, or one for all.
        if number == 3 {
            lab.write("etc/frr/frr.conf", format!("hostname zebra{number}\n{bgp}"))?;
        } else {
            lab.write("etc/frr/zebra.conf", format!("hostname zebra{number}\n"))?;
            lab.write("etc/frr/bgpd.conf", bgp)?;
        }
        let mut spec = spec(&format!("r{number}"));
        spec.lab_dir = Some(lab.path().to_owned());
        spec.scripts.startup = Some(b"systemctl start frr\n".to_vec());
        devices.push((lab, Device::create(&spec)?, number));
    }
    let reports = std::thread::scope(|scope| {
        let starting: Vec<_> = devices
            .iter()
            .map(|(_, device, _)| scope.spawn(move || start(device).map_err(|error| error.to_string())))
            .collect();
        starting.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
    });
    for report in reports {
        let report = report?;
        same(report.failed().count(), 0).map_err(|_| format!("{report:?}"))?;
    }
    for (_, device, number) in &devices {
        eventually("bgpd has its configuration", || {
            output(device, "vtysh -c 'show running-config'")
                .is_ok_and(|text| text.contains(&format!("router bgp {}", 65000 + number)))
        })?;
        contains(&output(device, "ls /run/frr")?, "zebra.pid")?;
        same(output(device, "ls /var/run/frr/*.pid | wc -l")?.parse::<u32>()? >= 3, true)?;
        contains(&output(device, "systemctl is-active frr")?, "active")?;
        // Its daemons run as frr, whatever id that is here.
        let user = output(device, "id -u frr")?;
        let owner = output(device, "awk '/^Uid:/ { print $2 }' /proc/$(cat /run/frr/bgpd.pid)/status")?;
        same(owner, user)?;
        let own_id_exists = output(device, "wc -l < /proc/self/uid_map")? != "1" || crate::support::is_real_root();
        same(output(device, "id -u frr")? != "0", own_id_exists)?;
    }
    Ok(())
}
