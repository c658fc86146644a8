//! Users and groups of a device: the host's, as far as their ids exist here.
//!
//! In a user namespace of a single id every service user becomes id 0, so that
//! a daemon that wants to run as `frr` or `bind` finds ids it can take.
//! Passwords are nobody's: the host's hashes do not come in.

use std::fs;
use std::path::Path;

use super::error::SetupError;
use super::identity::IdMap;
use super::layers::Layers;
use super::rootfs::HOST;

/// A line of `passwd` as far as it matters here.
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Used where the host has no `passwd`.
const LEAST_PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n";
/// Used where the host has no `group`.
const LEAST_GROUP: &str = "root:x:0:\n";

/// Writes `passwd`, `group` and their shadows into the upper layer.
pub(super) fn write(layers: &Layers<'_>) -> Result<(), SetupError> {
    let host = |name: &str, least: &str| {
        fs::read_to_string(Path::new(HOST).join("etc").join(name)).unwrap_or_else(|_| least.to_owned())
    };
    let passwd = map_passwd(&host("passwd", LEAST_PASSWD), layers.ids);
    let group = map_group(&host("group", LEAST_GROUP), layers.ids);
    let shadow = locked(&passwd, "*:19000:0:99999:7:::");
    let gshadow = locked(&group, "*::");
    layers.put("etc/passwd", passwd.as_bytes(), 0o644)?;
    layers.put("etc/group", group.as_bytes(), 0o644)?;
    layers.put("etc/shadow", shadow.as_bytes(), 0o640)?;
    layers.put("etc/gshadow", gshadow.as_bytes(), 0o640)
}

/// The device's users, once it has its `passwd`.
pub(super) fn read() -> Vec<User> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines().filter_map(parse_user).collect()
}

fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    Some(User { name: fields.next()?.to_owned(), uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

fn map_passwd(text: &str, ids: &IdMap) -> String {
    map_lines(text, |fields| {
        if let Some(uid) = fields.get_mut(2) {
            *uid = map_number(uid, |id| ids.uid(id));
        }
        if let Some(gid) = fields.get_mut(3) {
            *gid = map_number(gid, |id| ids.gid(id));
        }
    })
}

fn map_group(text: &str, ids: &IdMap) -> String {
    map_lines(text, |fields| {
        if let Some(gid) = fields.get_mut(2) {
            *gid = map_number(gid, |id| ids.gid(id));
        }
    })
}

fn map_number(text: &str, map: impl Fn(u32) -> u32) -> String {
    text.parse().map_or_else(|_| text.to_owned(), |id| map(id).to_string())
}

fn map_lines(text: &str, edit: impl Fn(&mut Vec<String>)) -> String {
    let mut mapped = String::with_capacity(text.len());
    for line in text.lines() {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        edit(&mut fields);
        mapped.push_str(&fields.join(":"));
        mapped.push('\n');
    }
    mapped
}

/// A shadow file in which nobody has a password.
fn locked(text: &str, rest: &str) -> String {
    text.lines()
        .filter_map(|line| line.split(':').next())
        .filter(|name| !name.is_empty())
        .map(|name| format!("{name}:{rest}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nfrr:x:103:107::/nonexistent:/bin/false\n";

    #[test]
    fn service_users_become_root_where_their_ids_do_not_exist() {
        let ids = IdMap::from_text("0 1000 1\n", "0 1000 1\n");
        assert_eq!(map_passwd(PASSWD, &ids), "root:x:0:0:root:/root:/bin/bash\nfrr:x:0:0::/nonexistent:/bin/false\n");
        assert_eq!(map_group("frrvty:x:108:frr\n", &ids), "frrvty:x:0:frr\n");
    }

    #[test]
    fn service_users_keep_their_ids_for_real_root() {
        let ids = IdMap::from_text("0 0 4294967295\n", "0 0 4294967295\n");
        assert_eq!(map_passwd(PASSWD, &ids), PASSWD);
    }

    #[test]
    fn no_password_comes_in() {
        assert_eq!(locked("root:secret:0\n\n", "*::"), "root:*::\n");
    }
}
