//! What of the host does not show in a device, and what stands there instead:
//! the state, secrets and configuration of the host's own services.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::accounts;
use super::error::{Explain, SetupError};
use super::identity::IdMap;
use super::layers::Layers;
use super::rootfs::HOST;

/// Directories that are empty in a device. A service's package may have made
/// them; what the host's administrator put there is the host's.
const EMPTIED: [&str; 46] = [
    "etc/frr",
    "etc/quagga",
    "etc/bind",
    "etc/bird",
    "etc/cni",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/cron.hourly",
    "etc/cron.monthly",
    "etc/cron.weekly",
    "etc/dnsmasq.d",
    "etc/docker",
    "etc/ipsec.d",
    "etc/keepalived",
    "etc/kubernetes",
    "etc/letsencrypt",
    "etc/libvirt",
    "etc/netplan",
    "etc/network/interfaces.d",
    "etc/NetworkManager",
    "etc/openvpn",
    "etc/postgresql",
    "etc/sudoers.d",
    "etc/swanctl",
    "etc/wireguard",
    "var/cache/bind",
    "var/lib/bind",
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/dhcp",
    "var/lib/docker",
    "var/lib/frr",
    "var/lib/kubelet",
    "var/lib/libvirt",
    "var/lib/lxc",
    "var/lib/lxd",
    "var/lib/misc",
    "var/lib/mysql",
    "var/lib/NetworkManager",
    "var/lib/postgresql",
    "var/lib/rancher",
    "var/lib/snapd",
    "var/mail",
    "var/spool/cron/crontabs",
    "var/tmp",
    "var/www",
];

/// Files that do not exist in a device unless the lab brings them.
const REMOVED: [&str; 14] = [
    "etc/bird.conf",
    "etc/bird6.conf",
    "etc/crontab",
    "etc/crypttab",
    "etc/dhcp/dhcpd.conf",
    "etc/dhcp/dhcpd6.conf",
    "etc/dnsmasq.conf",
    "etc/ethers",
    "etc/exports",
    "etc/ipsec.conf",
    "etc/ipsec.secrets",
    "etc/krb5.keytab",
    "etc/machine-id",
    "etc/radvd.conf",
];

/// Directories of `/etc` that labs do not write. In a user namespace their
/// files are shown as they are, which saves copying them.
const NOT_COPIED: [&str; 24] = [
    "alternatives",
    "apparmor.d",
    "apt",
    "ca-certificates",
    "cloud",
    "dconf",
    "dpkg",
    "emacs",
    "fonts",
    "gss",
    "initramfs-tools",
    "java",
    "kernel",
    "ld.so.conf.d",
    "ldap",
    "perl",
    "pki",
    "python3",
    "selinux",
    "ssl",
    "systemd",
    "udev",
    "X11",
    "xdg",
];

/// The longest file of `/etc` that is copied in a user namespace, in bytes.
const MAX_COPIED_BYTES: u64 = 256 << 10;

/// Directories outside `/etc` that labs write to; their entries, too, where
/// the second field says so.
const WRITABLE: [(&str, bool); 16] = [
    ("usr/bin", false),
    ("usr/sbin", false),
    ("usr/lib", false),
    ("usr/local", true),
    ("usr/share", false),
    ("usr/src", false),
    ("opt", false),
    ("srv", true),
    ("home", false),
    ("var/backups", false),
    ("var/cache", true),
    ("var/lib", true),
    ("var/local", false),
    ("var/opt", false),
    ("var/spool", true),
    ("var/spool/cron", false),
];

/// Directories that services write as users of their own. In a user namespace
/// the host's owners cannot be seen, so they are known by name.
const OWNED: [(&str, &str); 13] = [
    ("var/cache/bind", "bind"),
    ("var/lib/bind", "bind"),
    ("var/lib/frr", "frr"),
    ("var/lib/mysql", "mysql"),
    ("var/lib/postgresql", "postgres"),
    ("var/log/bind", "bind"),
    ("var/log/frr", "frr"),
    ("var/log/mysql", "mysql"),
    ("var/log/named", "bind"),
    ("var/log/postgresql", "postgres"),
    ("var/log/quagga", "quagga"),
    ("var/log/squid", "proxy"),
    ("var/spool/squid", "proxy"),
];

/// What FRR's init script reads where the lab brings no `daemons` file and the
/// host's cannot be read: the routing daemons that need no choice.
const FRR_DAEMONS: &str = "\
# Which daemons run; zebra and staticd always do.
bgpd=no
ospfd=no
ospf6d=no
ripd=no
ripngd=no
isisd=no
pimd=no
ldpd=no
bfdd=no
vtysh_enable=yes
zebra_options=\"  -A 127.0.0.1 -s 90000000\"
bgpd_options=\"   -A 127.0.0.1\"
ospfd_options=\"  -A 127.0.0.1\"
ospf6d_options=\" -A ::1\"
ripd_options=\"   -A 127.0.0.1\"
ripngd_options=\" -A ::1\"
isisd_options=\"  -A 127.0.0.1\"
pimd_options=\"   -A 127.0.0.1\"
ldpd_options=\"   -A 127.0.0.1\"
bfdd_options=\"   -A 127.0.0.1\"
staticd_options=\"-A 127.0.0.1\"
";

/// Labs bring one file per daemon.
const VTYSH_CONF: &str = "no service integrated-vtysh-config\n";

/// Empties directories, and in a user namespace gives the device files of its
/// own where the host's could not be changed.
pub(super) fn hide(layers: &mut Layers<'_>) -> Result<(), SetupError> {
    for path in EMPTIED {
        layers.make_fresh(path)?;
    }
    if let Some(logs) = layers.make_fresh("var/log")? {
        copy_tree_of_directories(layers, &Path::new(HOST).join("var/log"), &logs, 2)?;
    }
    for (path, with_entries) in WRITABLE {
        make_writable(layers, path, with_entries)?;
    }
    if !layers.ids.is_host() {
        copy_configuration(layers, Path::new("etc"))?;
    }
    Ok(())
}

/// The empty directories of logs that daemons expect to find.
fn copy_tree_of_directories(layers: &Layers<'_>, from: &Path, to: &Path, depth: usize) -> Result<(), SetupError> {
    if depth == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_dir() {
            continue;
        }
        let made = to.join(entry.file_name());
        fs::create_dir(&made)
            .and_then(|()| layers.copy_rights(&metadata, &made))
            .explain(|| format!("making {}", made.display()))?;
        copy_tree_of_directories(layers, &entry.path(), &made, depth - 1)?;
    }
    Ok(())
}

fn make_writable(layers: &Layers<'_>, path: &str, with_entries: bool) -> Result<(), SetupError> {
    let host = Path::new(HOST).join(path);
    if !host.is_dir() {
        return Ok(());
    }
    layers.make_dir(Path::new(path))?;
    if with_entries {
        for entry in fs::read_dir(host).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                layers.make_dir(&Path::new(path).join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}

/// Copies what is readable and small of a directory of the host.
fn copy_configuration(layers: &Layers<'_>, path: &Path) -> Result<(), SetupError> {
    let is_hidden = path.to_str().is_some_and(|path| EMPTIED.contains(&path));
    let name = path.strip_prefix("etc").ok().and_then(Path::to_str);
    if is_hidden || name.is_some_and(|name| NOT_COPIED.contains(&name)) {
        return Ok(());
    }
    let Some(upper) = layers.make_dir(path)? else {
        return Ok(());
    };
    let entries = fs::read_dir(Path::new(HOST).join(path));
    for entry in entries.into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            copy_configuration(layers, &path.join(entry.file_name()))?;
        } else if metadata.is_file() && metadata.size() <= MAX_COPIED_BYTES {
            let copy = upper.join(entry.file_name());
            // A file that cannot be read here is not the user's to see.
            let copied = fs::read(entry.path()).and_then(|text| fs::write(&copy, text));
            if copied.is_ok() {
                layers.copy_rights(&metadata, &copy).explain(|| format!("setting the rights of {}", copy.display()))?;
            }
        }
    }
    Ok(())
}

/// Gives the device its own name and addresses of names.
pub(super) fn identify(layers: &Layers<'_>, hostname: &str) -> Result<(), SetupError> {
    let hosts = hosts_file(hostname);
    let files: [(&str, &str); 7] = [
        ("etc/hosts", &hosts),
        ("etc/hostname", &format!("{hostname}\n")),
        ("etc/resolv.conf", ""),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files dns\n\
             networks: files\nprotocols: files\nservices: files\nethers: files\nrpc: files\n",
        ),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\n"),
        ("etc/fstab", ""),
        ("etc/sysctl.conf", ""),
    ];
    for (path, text) in files {
        layers.put(path, text.as_bytes(), 0o644)?;
    }
    layers.put("etc/sudoers", b"root ALL=(ALL:ALL) ALL\n", 0o440)
}

fn hosts_file(hostname: &str) -> String {
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n")
}

/// An empty `/etc/hosts` of the lab means the usual one, as in Kathará.
pub(super) fn fill_empty_hosts(hostname: &str) -> Result<(), SetupError> {
    let is_empty = fs::metadata("/etc/hosts").is_ok_and(|metadata| metadata.len() == 0);
    if !is_empty {
        return Ok(());
    }
    fs::write("/etc/hosts", hosts_file(hostname)).explain(|| "writing /etc/hosts".to_owned())
}

/// Removes single files of the host from the mounted tree and fills FRR's
/// emptied directory with what its scripts need. Comes before the lab's files.
pub(super) fn remove_files() {
    for path in REMOVED {
        // Mostly it is not there, and what is cannot be helped.
        let _ = fs::remove_file(Path::new("/").join(path));
    }
    for entry in fs::read_dir("/etc/ssh").into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"ssh_host_") {
            let _ = fs::remove_file(entry.path());
        }
    }
    if Path::new("/etc/frr").is_dir() {
        let daemons = fs::read_to_string(Path::new(HOST).join("etc/frr/daemons"));
        let daemons = daemons.unwrap_or_else(|_| FRR_DAEMONS.to_owned());
        let _ = fs::write("/etc/frr/daemons", daemons);
        let _ = fs::write("/etc/frr/vtysh.conf", VTYSH_CONF);
    }
    if Path::new("/var/www").is_dir() {
        let _ = fs::create_dir("/var/www/html");
    }
    let _ = fs::set_permissions("/var/tmp", fs::Permissions::from_mode(0o1777));
}

/// Owners and modes that services insist on, after the lab's files are there.
pub(super) fn fix_modes(ids: &IdMap) {
    if Path::new("/var/www").is_dir() {
        for_all_below(Path::new("/var/www"), &|path, _| {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o777));
        });
    }
    let users = accounts::read();
    if !ids.is_host() {
        for (directory, owner) in OWNED {
            if let Some(user) = users.iter().find(|user| user.name == owner) {
                // It exists only where the service is installed.
                let _ = chown(Path::new("/").join(directory), Some(user.uid), Some(user.gid));
            }
        }
    }
    for (directory, owner) in [("/etc/frr", "frr"), ("/etc/quagga", "quagga")] {
        let (Some(user), true) = (users.iter().find(|user| user.name == owner), Path::new(directory).is_dir()) else {
            continue;
        };
        let (uid, gid) = (user.uid, user.gid);
        for_all_below(Path::new(directory), &|path, metadata| {
            let _ = chown(path, Some(uid), Some(gid));
            if metadata.is_file() {
                let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o640));
            }
        });
    }
}

/// Visits a directory and everything below, following no link.
fn for_all_below(directory: &Path, visit: &dyn Fn(&Path, &Metadata)) {
    let mut pending: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        if metadata.is_symlink() {
            continue;
        }
        visit(&path, &metadata);
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()));
        }
    }
}
