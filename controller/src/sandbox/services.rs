//! Stand-ins for the service managers that labs call.
//!
//! A device has no systemd: `systemctl` and `service` are a small script over
//! `/etc/init.d`, and services that are not installed have an init script that
//! says so.

use std::path::Path;

use super::error::SetupError;
use super::layers::Layers;
use super::rootfs::HOST;

/// The script; what it does depends on the name it is called by.
const STAND_IN: &[u8] = include_bytes!("scripts/service.sh");

/// Where the script goes. The last two matter on hosts whose `/bin` and
/// `/sbin` are directories of their own.
const NAMES: [&str; 4] = ["usr/bin/systemctl", "usr/sbin/service", "bin/systemctl", "sbin/service"];

/// Services that labs start; where the host lacks one, its init script in the
/// device tells what to install.
const KNOWN_SERVICES: [&str; 22] = [
    "apache2",
    "bind",
    "bind9",
    "dnsmasq",
    "frr",
    "haproxy",
    "isc-dhcp-relay",
    "isc-dhcp-server",
    "keepalived",
    "lighttpd",
    "named",
    "nginx",
    "openvswitch-switch",
    "postfix",
    "quagga",
    "radvd",
    "rsyslog",
    "snmpd",
    "squid",
    "ssh",
    "vsftpd",
    "zebra",
];

/// Puts the stand-ins into the upper layer.
pub(super) fn install(layers: &Layers<'_>) -> Result<(), SetupError> {
    for name in NAMES {
        layers.put(name, STAND_IN, 0o755)?;
    }
    for service in KNOWN_SERVICES {
        let path = format!("etc/init.d/{service}");
        if !Path::new(HOST).join(&path).exists() {
            layers.put(&path, STAND_IN, 0o755)?;
        }
    }
    Ok(())
}
