//! Room in the kernel's neighbour tables, which all network namespaces of a
//! host share: 1024 entries by default, fewer than a large lab needs.

use std::fs;
use std::path::PathBuf;

use crate::lab::Lab;

/// Room for what is on the host besides the lab.
const MARGIN: u64 = 512;

/// Sees that the tables hold the lab's neighbours; gives a note where they were
/// enlarged or could not be. Only ever enlarges, for all labs and until the next
/// boot.
pub fn make_room(lab: &Lab) -> Option<String> {
    let needed = needed(lab) + MARGIN;
    let notes: Vec<String> = ["ipv4", "ipv6"].into_iter().filter_map(|family| make_room_in(family, needed)).collect();
    (!notes.is_empty()).then(|| notes.join("\n"))
}

/// Every device may know every other device of its LANs.
fn needed(lab: &Lab) -> u64 {
    let pairs = lab.lans.iter().map(|lan| {
        let members = u64::try_from(lan.members.len()).unwrap_or(u64::MAX);
        members.saturating_mul(members.saturating_sub(1))
    });
    pairs.fold(0, u64::saturating_add)
}

fn make_room_in(family: &str, needed: u64) -> Option<String> {
    let path = |number: u8| PathBuf::from(format!("/proc/sys/net/{family}/neigh/default/gc_thresh{number}"));
    let limit: u64 = fs::read_to_string(path(3)).ok()?.trim().parse().ok()?;
    if limit >= needed {
        return None;
    }
    // From the top down: the kernel does not check their order, its users do.
    let wanted = [(3, needed), (2, needed / 2), (1, needed / 8)];
    let raised = wanted.iter().all(|(number, value)| fs::write(path(*number), value.to_string()).is_ok());
    Some(match raised {
        true => {
            format!("note: {family} neighbour tables were enlarged from {limit} to {needed} entries, for this machine")
        }
        false => format!(
            "warning: this lab may need {needed} {family} neighbours and the machine allows {limit}: pings may fail; as root: sysctl -w net.{family}.neigh.default.gc_thresh3={needed}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Lan, LanMember};

    #[test]
    fn each_device_may_know_each_other_one_of_its_lans() {
        let lan = |members: usize| Lan {
            members: (0..members).map(|device| LanMember { device, interface: 0 }).collect(),
            ..Lan::default()
        };
        let lab = Lab { lans: vec![lan(2), lan(3), lan(0)], ..Lab::default() };
        assert_eq!(needed(&lab), 2 + 6);
    }
}
