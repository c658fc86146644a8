//! Which package brings a program that a lab calls and this machine lacks.
//!
//! In: a command line that ended with exit code 127. Out: the package's name on Debian, for programs that
//! Kathará's base image has and a small Debian does not.

/// Packages, each with the programs that labs know it by.
const PACKAGES: [(&str, &[&str]); 28] = [
    ("arping", &["arping"]),
    ("arptables", &["arptables"]),
    ("bind9", &["named", "rndc"]),
    ("bind9-dnsutils", &["dig", "nslookup", "nsupdate"]),
    ("bind9-host", &["host"]),
    ("bridge-utils", &["brctl"]),
    ("curl", &["curl"]),
    ("dnsmasq", &["dnsmasq"]),
    ("ebtables", &["ebtables"]),
    ("ethtool", &["ethtool"]),
    ("frr", &["vtysh"]),
    ("hping3", &["hping3"]),
    ("iperf3", &["iperf3"]),
    ("iproute2", &["bridge", "ip", "ss", "tc"]),
    ("iptables", &["ip6tables", "iptables", "iptables-legacy", "iptables-restore"]),
    ("iputils-ping", &["ping"]),
    ("iputils-tracepath", &["tracepath"]),
    ("isc-dhcp-client", &["dhclient"]),
    ("ndisc6", &["ndisc6", "rdisc6"]),
    ("net-tools", &["arp", "ifconfig", "netstat", "route"]),
    ("netcat-openbsd", &["nc"]),
    ("nftables", &["nft"]),
    ("nmap", &["nmap"]),
    ("openvswitch-switch", &["ovs-ofctl", "ovs-vsctl"]),
    ("procps", &["pgrep", "ps", "sysctl"]),
    ("tcpdump", &["tcpdump"]),
    ("traceroute", &["traceroute"]),
    ("wget", &["wget"]),
];

/// The Debian package of the program that a command line calls.
pub fn package_of(command: &str) -> Option<&'static str> {
    let program = command.split_whitespace().next()?.rsplit('/').next()?;
    PACKAGES.iter().find(|(_, programs)| programs.contains(&program)).map(|(package, _)| *package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_a_missing_program_is_known_by_its_name_alone() {
        assert_eq!(package_of("ifconfig eth0 10.0.0.1/24 up"), Some("net-tools"));
        assert_eq!(package_of("/usr/sbin/brctl addbr br0"), Some("bridge-utils"));
        assert_eq!(package_of("no-such-program"), None);
        assert_eq!(package_of(""), None);
    }
}
