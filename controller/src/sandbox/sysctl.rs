//! Kernel settings of a device's network namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Where settings live.
const ROOT: &str = "/proc/sys";

/// What Kathará sets on every device. They are written before interfaces
/// exist, since `ethN` inherits `default`.
pub(super) fn defaults(ipv6: bool) -> Vec<(String, String)> {
    let ipv4 = [
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv4.conf.lo.rp_filter", "0"),
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.icmp_ratelimit", "0"),
    ];
    let with_ipv6 = [
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv6.conf.all.accept_ra", "0"),
        ("net.ipv6.icmp.ratelimit", "0"),
        ("net.ipv6.conf.default.disable_ipv6", "0"),
        ("net.ipv6.conf.all.disable_ipv6", "0"),
    ];
    let without_ipv6 = [
        ("net.ipv6.conf.default.disable_ipv6", "1"),
        ("net.ipv6.conf.all.disable_ipv6", "1"),
        ("net.ipv6.conf.default.forwarding", "0"),
        ("net.ipv6.conf.all.forwarding", "0"),
    ];
    let ipv6_settings: &[_] = if ipv6 {
        &with_ipv6
    } else if fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        &without_ipv6
    } else {
        // A kernel without IPv6 has nothing to be switched off.
        &[]
    };
    ipv4.iter().chain(ipv6_settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Writes each setting; one warning for each that could not be written.
pub(super) fn apply(settings: &[(String, String)]) -> Vec<String> {
    settings
        .iter()
        .filter_map(|(key, value)| {
            let reason = match path_of(key) {
                Some(path) => explain(&fs::write(path, value).err()?),
                None => "not the name of a setting under net.".to_owned(),
            };
            Some(format!("sysctl {key}={value} is not set: {reason}"))
        })
        .collect()
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "this kernel, or a device without that interface, does not have it".to_owned(),
        io::ErrorKind::PermissionDenied => "it is not per device on this kernel, or takes real root".to_owned(),
        io::ErrorKind::InvalidInput => "the kernel refuses the value".to_owned(),
        _ => error.to_string(),
    }
}

/// The file of a setting. As for sysctl(8), the first separator decides: after
/// a dot, dots separate and `/` stands for a dot in a name; after a slash,
/// slashes separate.
fn path_of(key: &str) -> Option<PathBuf> {
    let relative = match key.find(['.', '/']) {
        Some(position) if key.as_bytes().get(position) == Some(&b'.') => key
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    };
    let mut path = PathBuf::from(ROOT);
    let mut parts = 0;
    for part in relative.split('/') {
        if part.is_empty() || part == "." || part == ".." || part.contains('\0') {
            return None;
        }
        path.push(part);
        parts += 1;
    }
    (parts > 1 && relative.starts_with("net/")).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(key: &str) -> Option<String> {
        path_of(key).map(|path| path.display().to_string())
    }

    #[test]
    fn dots_and_slashes_separate() {
        let expected = Some("/proc/sys/net/ipv4/ip_forward".to_owned());
        assert_eq!(shown("net.ipv4.ip_forward"), expected);
        assert_eq!(shown("net/ipv4/ip_forward"), expected);
    }

    #[test]
    fn a_dot_in_an_interface_name_is_written_as_the_other_separator() {
        let expected = Some("/proc/sys/net/ipv4/conf/eth0.10/rp_filter".to_owned());
        assert_eq!(shown("net.ipv4.conf.eth0/10.rp_filter"), expected);
        assert_eq!(shown("net/ipv4/conf/eth0.10/rp_filter"), expected);
    }

    #[test]
    fn nothing_outside_net_is_reached() {
        for key in
            ["kernel.hostname", "net", "net/../kernel/hostname", "net..x", "/net/ipv4/ip_forward", "", "net.ipv4.\0"]
        {
            assert_eq!(shown(key), None, "{key:?}");
        }
    }
}
