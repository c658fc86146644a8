//! Kernel settings that every device starts with.

use super::model::{Device, Lab};

/// Set whatever the lab says.
const ALWAYS: [(&str, &str); 5] = [
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv4.conf.lo.rp_filter", "0"),
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv4.icmp_ratelimit", "0"),
];

/// Set in devices with IPv6.
const WITH_IPV6: [(&str, &str); 5] = [
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv6.conf.all.accept_ra", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
];

/// Set in devices without IPv6.
const WITHOUT_IPV6: [(&str, &str); 3] = [
    ("net.ipv6.conf.default.disable_ipv6", "1"),
    ("net.ipv6.conf.all.disable_ipv6", "1"),
    ("net.ipv6.conf.all.forwarding", "0"),
];

impl Lab {
    /// Key and value of what is to be set in the device before its interfaces exist, which inherit it.
    /// The device's own `sysctl` options come after the interfaces and override it.
    pub fn default_sysctls(&self, device: &Device) -> Vec<(&'static str, &'static str)> {
        let ipv6: &[_] = if self.ipv6(device) { &WITH_IPV6 } else { &WITHOUT_IPV6 };
        ALWAYS.iter().chain(ipv6).copied().collect()
    }
}
