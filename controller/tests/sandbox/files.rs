//! The lab's files, volumes and the shared directory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use controller::sandbox::{Device, Volume, VolumeMode};

use crate::support::{Scratch, TestResult, contains, output, run, same, shell, spec};

as_root_and_as_user!(
    the_labs_tree_lies_over_the_root,
    text_files_lose_their_byte_order_mark_and_carriage_returns,
    links_of_the_labs_tree_are_followed,
    the_labs_hosts_file_wins,
    service_directories_have_the_modes_that_services_want,
    files_of_the_host_can_be_changed_and_removed_inside,
    volumes_show_the_host_as_asked,
    the_shared_directory_is_writable_by_all_devices,
    a_volume_that_does_not_exist_is_named,
    storage_is_bounded,
);

fn the_labs_tree_lies_over_the_root() -> TestResult {
    let lab = Scratch::new()?;
    lab.write("etc/frr/bgpd.conf", "router bgp 65000\n")?;
    lab.write("etc/frr/daemons", "bgpd=yes\n")?;
    lab.write("usr/local/bin/hello", "#!/bin/sh\necho hello from the lab\n")?;
    lab.write("bin/merged", "through the link of /bin\n")?;
    lab.write("etc/debian_version", "the lab's\n")?;
    lab.write("brand/new/tree", "new\n")?;
    lab.write(".DS_Store", "not copied\n")?;
    fs::set_permissions(lab.path().join("usr/local/bin/hello"), fs::Permissions::from_mode(0o755))?;
    let mut spec = spec("tree");
    spec.lab_dir = Some(lab.path().to_owned());
    let device = Device::create(&spec)?;
    same(output(&device, "hello")?, "hello from the lab")?;
    same(output(&device, "cat /etc/frr/bgpd.conf /etc/frr/daemons")?, "router bgp 65000\nbgpd=yes")?;
    same(output(&device, "cat /usr/bin/merged /brand/new/tree")?, "through the link of /bin\nnew")?;
    same(output(&device, "cat /etc/debian_version")?, "the lab's")?;
    same(output(&device, "ls -a / | grep DS_Store")?, "")?;
    // What was there beside stays.
    contains(&output(&device, "ls /usr/bin /etc")?, "passwd")
}

fn text_files_lose_their_byte_order_mark_and_carriage_returns() -> TestResult {
    let lab = Scratch::new()?;
    lab.write("text", b"\xEF\xBB\xBFone\r\ntwo\r\n")?;
    lab.write("binary", b"\x00\x01\r\n\xFF")?;
    let mut spec = spec("text");
    spec.lab_dir = Some(lab.path().to_owned());
    let device = Device::create(&spec)?;
    same(output(&device, "od -An -c /text | tr -d ' \\n'")?, "one\\ntwo\\n")?;
    same(output(&device, "od -An -tx1 /binary | tr -d ' \\n'")?, "00010d0aff")
}

fn links_of_the_labs_tree_are_followed() -> TestResult {
    let lab = Scratch::new()?;
    let beside = Scratch::new()?;
    let target = beside.write("absolute", "by an absolute link\n")?;
    lab.write("real/file", "by a relative link\n")?;
    symlink("real", lab.path().join("linked"))?;
    symlink(&target, lab.path().join("absolute"))?;
    let mut spec = spec("links");
    spec.lab_dir = Some(lab.path().to_owned());
    let device = Device::create(&spec)?;
    same(output(&device, "cat /linked/file /absolute")?, "by a relative link\nby an absolute link")?;
    same(output(&device, "test -L /absolute || echo a file")?, "a file")
}

fn the_labs_hosts_file_wins() -> TestResult {
    let lab = Scratch::new()?;
    lab.write("etc/hosts", "10.0.0.1 server\n")?;
    lab.write("etc/resolv.conf", "nameserver 10.0.0.2\n")?;
    let mut spec = spec("hosts");
    spec.lab_dir = Some(lab.path().to_owned());
    let device = Device::create(&spec)?;
    same(output(&device, "cat /etc/hosts /etc/resolv.conf")?, "10.0.0.1 server\nnameserver 10.0.0.2")?;
    contains(&output(&device, "getent hosts server")?, "10.0.0.1")?;
    drop(device);
    lab.write("etc/hosts", "")?;
    let device = Device::create(&spec)?;
    contains(&output(&device, "cat /etc/hosts")?, "127.0.1.1\thosts")
}

fn service_directories_have_the_modes_that_services_want() -> TestResult {
    let lab = Scratch::new()?;
    lab.write("etc/frr/zebra.conf", "hostname x\n")?;
    lab.write("var/www/html/index.html", "<p>a lab\n")?;
    let mut spec = spec("modes");
    spec.lab_dir = Some(lab.path().to_owned());
    let device = Device::create(&spec)?;
    let owner = output(&device, "id -u frr")?;
    same(output(&device, "stat -c '%a %u' /etc/frr/zebra.conf")?, format!("640 {owner}"))?;
    same(output(&device, "stat -c %a /var/www/html/index.html /var/www")?, "777\n777")
}

fn files_of_the_host_can_be_changed_and_removed_inside() -> TestResult {
    let before = fs::read("/etc/services").or_else(|_| fs::read("/etc/protocols"))?;
    let device = Device::create(&spec("change"))?;
    let script = "set -e; echo x >> /etc/host.conf; sed -i s/x/y/ /etc/host.conf; rm /etc/services || rm /etc/protocols
        mkdir /etc/new; mv /etc/host.conf /etc/new/; cat /etc/new/host.conf | tail -n 1
        echo a > /usr/bin/made; echo b > /var/lib/made; mkdir -p /opt/made /srv/made /home/made; echo ok";
    let (status, text) = run(&device, &shell(script))?;
    same(status.success(), true).map_err(|_| text.clone())?;
    same(text.trim(), "y\nok")?;
    same(fs::read("/etc/services").or_else(|_| fs::read("/etc/protocols"))?, before)?;
    same(fs::exists("/usr/bin/made")?, false)
}

fn volumes_show_the_host_as_asked() -> TestResult {
    let host = Scratch::new()?;
    host.write("data", "of the host\n")?;
    let mut spec = spec("volumes");
    let volume = |guest: &str, mode| Volume { host: host.path().to_owned(), guest: guest.into(), mode };
    spec.volumes = vec![
        volume("/mnt/read", VolumeMode::ReadOnly),
        volume("/usr/share/deep/er/write", VolumeMode::ReadWrite),
        Volume { host: host.path().join("data"), guest: "/etc/one-file".into(), mode: VolumeMode::ReadOnly },
    ];
    let device = Device::create(&spec)?;
    same(output(&device, "cat /mnt/read/data /etc/one-file")?, "of the host\nof the host")?;
    contains(&output(&device, "echo x > /mnt/read/new")?, "Read-only file system")?;
    contains(&output(&device, "echo x > /etc/one-file")?, "Read-only file system")?;
    same(output(&device, "echo written > /usr/share/deep/er/write/new")?, "")?;
    same(fs::read_to_string(host.path().join("new"))?, "written\n")
}

fn the_shared_directory_is_writable_by_all_devices() -> TestResult {
    let shared = Scratch::new()?;
    let mut devices = Vec::new();
    for name in ["a", "b"] {
        let mut spec = spec(name);
        spec.shared_dir = Some(shared.path().to_owned());
        devices.push(Device::create(&spec)?);
    }
    output(&devices[0], "echo from a > /shared/note")?;
    same(output(&devices[1], "cat /shared/note")?, "from a")
}

fn a_volume_that_does_not_exist_is_named() -> TestResult {
    for (host, guest, part) in [
        ("/no/such/directory", "/mnt", "/no/such/directory"),
        ("/usr", "relative", "relative"),
        ("/usr", "/", "not an absolute path below /"),
        ("/usr", "/a/../b", "/a/../b"),
    ] {
        let mut spec = spec("novolume");
        spec.volumes = vec![Volume { host: host.into(), guest: guest.into(), mode: VolumeMode::ReadOnly }];
        let error = Device::create(&spec).map(|_| ()).expect_err("it is refused").to_string();
        contains(&error, part)?;
        contains(&error, "novolume")?;
    }
    Ok(())
}

fn storage_is_bounded() -> TestResult {
    let mut spec = spec("full");
    spec.storage_limit_bytes = 8 << 20;
    let device = Device::create(&spec)?;
    contains(&output(&device, "head -c 100000000 /dev/zero > /var/lib/big")?, "No space left")?;
    contains(&output(&device, "head -c 100000000 /dev/zero > /tmp/big")?, "No space left")
}
