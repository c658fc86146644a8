//! The size of packets: what fits passes, one byte more is refused where it is sent, and everybody is told why.

use nix::errno::Errno;
use tests::fabric::{Fabric, Family, LAN, MACS};
use tests::frames::{self, Sniffer};
use tests::host::Host;

/// Octets of an Ethernet header.
const HEADER: usize = 14;

fn the_largest_frame_passes_and_no_larger_one(family: Family, mtu: u32, reason: &str) {
    let fabric = Fabric::with(family, 1, 2);
    let [a, b] = [Host::new("pc1"), Host::new("pc2")];
    let attached = [(&a, 0, "192.168.1.1/24"), (&b, 1, "192.168.1.2/24")]
        .map(|(pod, at, address)| fabric.workers[at].attach(pod, LAN, MACS[at], address));
    assert!(attached.iter().all(|attached| attached.mtu.get() == mtu), "{attached:?}");
    a.wait_pings("192.168.1.2");
    let payload = mtu - 28;
    assert!(a.try_sh(&format!("ping -n -c 1 -W 5 -M do -s {payload} 192.168.1.2")).status.success());
    let refused = a.try_sh(&format!("ping -n -c 1 -W 5 -M do -s {} 192.168.1.2", payload + 1));
    let text = String::from_utf8_lossy(&refused.stderr).to_lowercase();
    assert!(text.contains("message too long") && text.contains(&format!("mtu={mtu}")), "{text}");
    // A frame that is no IP, of the largest size: whole at the other end. One octet more does not even leave.
    let sniffer = Sniffer::start(&b, "eth0");
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(HEADER + mtu as usize, 7);
    frames::send(&a, "eth0", &frame);
    sniffer.wait_for("the largest frame", |seen| seen == frame);
    frame.push(7);
    assert_eq!(frames::try_send(&a, "eth0", &frame), Err(Errno::EMSGSIZE));
    for worker in &fabric.workers {
        let rows = worker.vnis();
        let row = rows.iter().find(|row| row.vni == LAN).cloned().unwrap_or_default();
        assert_eq!((row.mtu, row.mtu_reason.as_deref()), (Some(mtu), Some(reason)));
        let log = worker.host.log("megalos-speaker");
        assert!(log.contains(reason), "{log}");
    }
}

#[test]
fn the_largest_frame_passes_over_ipv4_and_no_larger_one() {
    the_largest_frame_passes_and_no_larger_one(Family::V4, 1_450, "underlay 1500 - 50 for IPv4 = 1450");
}

#[test]
fn the_largest_frame_passes_over_ipv6_and_no_larger_one() {
    the_largest_frame_passes_and_no_larger_one(Family::V6, 1_430, "underlay 1500 - 70 for IPv6 = 1430");
}
