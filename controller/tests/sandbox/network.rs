//! Kernel settings, and the descriptors a worker attaches interfaces with.

use std::fs::File;
use std::os::fd::AsFd;

use controller::sandbox::Device;

use crate::support::{TestResult, contains, output, same, spec, start};

as_root_and_as_user!(
    the_default_settings_are_katharas,
    ipv6_is_on_where_asked,
    the_labs_settings_come_after_the_interfaces,
    a_setting_that_does_not_exist_is_a_warning,
    the_descriptors_lead_into_the_device,
    settings_of_the_machine_cannot_be_changed,
);

const SETTINGS: &str = "cat /proc/sys/net/ipv4/conf/all/rp_filter /proc/sys/net/ipv4/conf/eth0/rp_filter \
    /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/icmp_ratelimit /proc/sys/net/ipv6/conf/eth0/disable_ipv6 \
    /proc/sys/net/ipv6/conf/all/forwarding | tr '\\n' ' '";

fn the_default_settings_are_katharas() -> TestResult {
    let device = Device::create(&spec("defaults"))?;
    output(&device, "ip link add eth0 type veth peer name p0")?;
    same(output(&device, SETTINGS)?, "0 0 1 0 1 0")
}

fn ipv6_is_on_where_asked() -> TestResult {
    let mut spec = spec("six");
    spec.ipv6 = true;
    let device = Device::create(&spec)?;
    output(&device, "ip link add eth0 type veth peer name p0; ip link set eth0 up")?;
    same(output(&device, SETTINGS)?, "0 0 1 0 0 1")?;
    contains(&output(&device, "ip -6 addr show dev eth0; ip -6 addr show dev lo")?, "::1/128")
}

fn the_labs_settings_come_after_the_interfaces() -> TestResult {
    let mut spec = spec("lab");
    spec.sysctls = [("net.ipv4.conf.eth0.rp_filter", "1"), ("net.ipv4.ip_forward", "0")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    let device = Device::create(&spec)?;
    output(&device, "ip link add eth0 type veth peer name p0")?;
    let report = start(&device)?;
    same(report.warnings.len(), 0).map_err(|_| format!("{:?}", report.warnings))?;
    same(output(&device, SETTINGS)?, "0 1 0 0 1 0")
}

fn a_setting_that_does_not_exist_is_a_warning() -> TestResult {
    let mut spec = spec("missing");
    spec.sysctls = [("net.ipv4.no_such_thing", "1"), ("net.ipv4.ip_forward", "nonsense"), ("net.ipv4.ip_forward", "0")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec();
    let device = Device::create(&spec)?;
    let report = start(&device)?;
    same(report.warnings.len(), 2)?;
    contains(&report.warnings[0], "net.ipv4.no_such_thing")?;
    contains(&report.warnings[1], "refuses the value")?;
    same(output(&device, "cat /proc/sys/net/ipv4/ip_forward")?, "0")
}

fn the_descriptors_lead_into_the_device() -> TestResult {
    let device = Device::create(&spec("fds"))?;
    let network = device.network();
    let netns = File::from(network.netns.as_fd().try_clone_to_owned()?);
    let inode = std::os::unix::fs::MetadataExt::ino(&netns.metadata()?);
    same(output(&device, "readlink /proc/self/ns/net")?, format!("net:[{inode}]"))?;
    // A request on the socket acts inside: set lo down by hand-made netlink.
    let mut message = Vec::new();
    message.extend_from_slice(&32_u32.to_ne_bytes());
    message.extend_from_slice(&19_u16.to_ne_bytes()); // RTM_SETLINK
    message.extend_from_slice(&5_u16.to_ne_bytes()); // REQUEST | ACK
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&1_u32.to_ne_bytes()); // lo
    message.extend_from_slice(&0_u32.to_ne_bytes()); // flags: down
    message.extend_from_slice(&1_u32.to_ne_bytes()); // change: IFF_UP
    nix::unistd::write(&network.netlink, &message)?;
    let mut answer = [0; 256];
    let length = nix::unistd::read(&network.netlink, &mut answer)?;
    same(answer.get(16..20).map(|_| length >= 20), Some(true))?;
    same(&answer[16..20], &0_i32.to_ne_bytes()[..])?;
    contains(&output(&device, "ip link show lo")?, "state DOWN")
}

fn settings_of_the_machine_cannot_be_changed() -> TestResult {
    let device = Device::create(&spec("machine"))?;
    let text =
        output(&device, "echo 1 > /proc/sys/vm/swappiness; echo h > /proc/sysrq-trigger; echo 1 > /sys/kernel/x")?;
    same(text.lines().count(), 3).map_err(|_| text.clone())?;
    same(output(&device, "sysctl -q -w net.ipv4.ip_forward=0; cat /proc/sys/net/ipv4/ip_forward")?, "0")
}
