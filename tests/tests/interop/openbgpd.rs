//! What OpenBGPD cannot do, so that an operator knows, and so that we notice when it can.

use std::collections::BTreeSet;

use tests::fabric::LAN;
use tests::peers::Software;
use tests::wait;

use crate::originate::Restarts;
use crate::{client, originate, reflector};

/// RFC 7606 section 5.4: it 'MUST handle routes with unrecognized NLRI types within that address family by discarding them'.
#[test]
fn it_ends_the_session_on_route_types_that_it_does_not_know_and_nobody_else_suffers() {
    let setup = client::set_up(Software::Openbgpd, "", Restarts::Default);
    let reflector = &setup.fabric.reflectors[0];
    wait::until("OpenBGPD to end its session twice", || {
        let peer = reflector.peer(originate::ADDRESS).unwrap_or_default();
        let error = peer.last_error.unwrap_or_default();
        if peer.established_count > 1 && error.contains("UPDATE") { Ok(()) } else { Err(error) }
    });
    setup.devices[0].wait_pings("192.168.1.2");
    let others = reflector.peers().into_iter().filter(|peer| peer.address != originate::ADDRESS);
    assert_eq!(others.map(|peer| peer.established_count).collect::<BTreeSet<_>>(), BTreeSet::from([1]));
}

/// It compares routes without their distinguisher, which 'MUST be unique across all MAC-VRFs on a PE' (RFC 7432 section
/// 7.9) to tell them apart.
#[test]
fn as_a_reflector_it_takes_the_routes_of_two_lans_for_one() {
    let setup = reflector::set_up(Software::Openbgpd, &[LAN, 200]);
    let floods = || {
        let keys = setup.reflector.routes().into_iter().map(|route| route.key);
        keys.filter(|key| key.starts_with("[3][10.0.0.11:")).collect::<Vec<_>>()
    };
    let sent = || setup.announced().values().flatten().filter(|r| r.key.starts_with("[3][10.0.0.11:")).count();
    wait::until_true("both workers to announce both LANs", || sent() == 2 && setup.reflector.routes().len() > 5);
    assert_eq!(floods().len(), 1, "OpenBGPD tells LANs apart: let it serve several in the suite");
}
