//! A LAN made by hand, as FRR's users and other tools make them: a bridge and a VXLAN device in the host's own namespace.

use crate::host::Host;

/// Makes `br<vni>` and in it `vx<vni>`, which sends from `vtep` and does not learn: a control plane is to fill its table.
pub fn lan(host: &Host, vni: u32, vtep: &str) {
    host.sh(&format!(
        "ip link add br{vni} type bridge mcast_snooping 0 &&
         ip link add vx{vni} type vxlan id {vni} dstport 4789 local {vtep} nolearning &&
         ip link set vx{vni} addrgenmode none master br{vni} &&
         bridge link set dev vx{vni} learning off neigh_suppress off &&
         ip link set br{vni} addrgenmode none up && ip link set vx{vni} up"
    ));
}

/// Plugs a device into the LAN as `eth0` with this MAC and address; its port is called after the device's last word.
pub fn plug(host: &Host, device: &Host, vni: u32, mac: &str, address: &str) {
    let port = port(device);
    host.sh(&format!(
        "ip link add {port} mtu 1450 type veth peer name eth0 mtu 1450 address {mac} netns {} &&
         ip link set {port} addrgenmode none master br{vni} up",
        device.name()
    ));
    let flags = if address.contains(':') { "nodad" } else { "" };
    device.sh(&format!("ip address add {address} dev eth0 {flags} && ip link set eth0 up"));
    device.limit_queue();
}

/// Unplugs the device; its interface is gone.
pub fn unplug(host: &Host, device: &Host) {
    host.sh(&format!("ip link del {}", port(device)));
}

fn port(device: &Host) -> String {
    let word = device.name().rsplit('-').next().unwrap_or_default();
    format!("to-{word}")
}

/// The port to which the bridge sends frames for this MAC.
pub fn port_of(host: &Host, vni: u32, mac: &str) -> Option<String> {
    let table = host.sh(&format!("bridge fdb show br br{vni}"));
    let mut words = table.lines().find(|line| line.starts_with(mac) && line.contains(" master "))?.split_whitespace();
    words.find(|word| *word == "dev")?;
    words.next().map(str::to_owned)
}

/// The VTEP to which the VXLAN device of the host's own namespace sends frames for this MAC.
pub fn vtep_of(host: &Host, vni: u32, mac: &str) -> Option<String> {
    crate::overlay::vtep_in(&host.sh(&format!("bridge fdb show dev vx{vni}")), mac)
}
