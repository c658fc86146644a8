//! The dataplane's thread: nothing blocks, nothing is lost without a word, nothing outlives its handles.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp_core::types::{MacAddr, Vni};
use dataplane::memory::Memory;
use dataplane::{AttachRequest, Change, Error, Existing, Observation, Pod, PortId, actor};
use evpn::forwarding::{Desired, Key};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(20);

fn vni() -> Vni {
    Vni::new(7).unwrap()
}

fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn port() -> PortId {
    PortId::attachment("pod", "eth0")
}

fn request() -> AttachRequest {
    AttachRequest {
        port: port(),
        vni: vni(),
        lan: "lan".into(),
        pod: Pod::Simulated,
        interface: "eth0".into(),
        mac: None,
        mtu: None,
        addresses: Vec::new(),
        routes: Vec::new(),
        existing: Existing::Keep,
    }
}

fn memory() -> Memory {
    Memory::new(Ipv4Addr::new(192, 0, 2, 1).into(), 1450).unwrap()
}

#[tokio::test]
async fn commands_are_answered_and_observations_arrive() {
    let memory = memory();
    let (handle, mut events, thread) = actor::spawn(memory.clone()).unwrap();
    let attached = handle.attach(request()).await.unwrap();
    assert_eq!(attached.mtu, 1450);
    let tunnel = Change { key: Key::Tunnel(vni()), desired: Some(Desired::Tunnel) };
    let vtep = Ipv4Addr::new(192, 0, 2, 2).into();
    let row = |n| Change { key: Key::Mac(vni(), mac(n)), desired: Some(Desired::RemoteMac { vtep, sticky: false }) };
    // More than one batch.
    let changes: Vec<Change> = std::iter::once(tunnel).chain((1..=3000).map(row)).collect();
    let results = handle.apply(changes).await.unwrap();
    assert_eq!(results.len(), 3001);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(handle.snapshot().await.unwrap().lans[&vni()].remote.len(), 3000);

    memory.frame(vni(), &port(), mac(1), mac(2));
    let seen = timeout(LONG, events.recv()).await.unwrap().unwrap();
    assert_eq!(seen, [Observation::RowTakenOver { vni: vni(), mac: mac(1), port: port(), sticky: false }]);
    handle.detach(vec![port()]).await.unwrap();
    assert!(handle.snapshot().await.unwrap().lans.is_empty());
    drop(handle);
    assert_eq!(timeout(LONG, async { while events.recv().await.is_some() {} }).await, Ok(()));
    thread.join().unwrap();
}

#[tokio::test]
async fn a_snapshot_voids_older_observations() {
    let memory = memory();
    let (handle, mut events, _thread) = actor::spawn(memory.clone()).unwrap();
    handle.attach(request()).await.unwrap();
    for n in 0..10 {
        memory.frame(vni(), &port(), mac(n), mac(99));
    }
    let snapshot = handle.snapshot().await.unwrap();
    assert_eq!(snapshot.lans[&vni()].local.len(), 10);
    memory.frame(vni(), &port(), mac(100), mac(99));
    let seen = timeout(LONG, events.recv()).await.unwrap().unwrap();
    assert_eq!(seen, [Observation::LocalMac { vni: vni(), mac: mac(100), port: port(), sticky: false }]);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_blocks_no_command_and_is_told_of_the_loss() {
    let memory = memory();
    let (handle, mut events, _thread) = actor::spawn(memory.clone()).unwrap();
    handle.attach(request()).await.unwrap();
    for n in 0..20_000 {
        memory.frame(vni(), &port(), mac(n), mac(99));
        if n % 100 == 0 {
            timeout(LONG, handle.apply(Vec::new())).await.unwrap().unwrap();
            timeout(LONG, handle.detach(vec![PortId::new("nobody")])).await.unwrap().unwrap();
        }
    }
    let mut seen = Vec::new();
    while !seen.contains(&Observation::Overrun) {
        seen.extend(timeout(LONG, events.recv()).await.unwrap().unwrap());
    }
    // And the flow goes on.
    memory.frame(vni(), &port(), mac(30_000), mac(99));
    let wanted = Observation::LocalMac { vni: vni(), mac: mac(30_000), port: port(), sticky: false };
    while !seen.contains(&wanted) {
        seen.extend(timeout(LONG, events.recv()).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn the_thread_ends_with_its_last_handle_and_says_so() {
    let (handle, events, thread) = actor::spawn(memory()).unwrap();
    let second = handle.clone();
    drop(handle);
    second.snapshot().await.unwrap();
    // Without a consumer commands are still served.
    drop(events);
    second.attach(request()).await.unwrap();
    drop(second);
    thread.join().unwrap();

    let (handle, mut events, thread) = actor::spawn(memory()).unwrap();
    let handles: Vec<_> = (0..8).map(|_| handle.clone()).collect();
    drop(handle);
    std::thread::scope(|scope| handles.into_iter().for_each(|handle| _ = scope.spawn(move || drop(handle))));
    thread.join().unwrap();
    assert!(events.recv().await.is_none());
}

#[tokio::test]
async fn errors_reach_the_one_who_asked() {
    let memory = memory();
    let (handle, _events, _thread) = actor::spawn(memory.clone()).unwrap();
    memory.fail_snapshots(1);
    assert!(matches!(handle.snapshot().await, Err(Error::Unsteady)));
    handle.snapshot().await.unwrap();
}
