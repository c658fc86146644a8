//! Dialogues of two speakers over a network that delays, cuts, splits, and puts octets in their mouths: whatever has
//! happened, once it stops they have exactly one session.

use core::time::Duration;

use bgp_core::session::tests::net::Net;
use bgp_core::session::{PeerConfig, State, StopReason};
use bgp_core::types::{Asn, RouterId};

use crate::octets::Choices;
use crate::session::{END_OF_RIB, stop_reason};

/// Steps per input: beyond them nothing new is learned.
const MAX_STEPS: usize = 64;
/// The longest pause after failures.
const IDLE_HOLD_MAX: Duration = Duration::from_secs(8);
/// Both know each other again after this: hold time, the longest pause after failures, and the time to open.
const RECOVERY: Duration = Duration::from_secs(60);

/// Runs one input: two octets of configuration, then a program of events.
pub fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let configs = [config(1, choices.octet()), config(2, choices.octet() & !PASSIVE)];
    let mut net = Net::new(configs[0].clone(), configs[1].clone());
    net.start();
    for _ in 0..MAX_STEPS {
        if choices.is_empty() {
            break;
        }
        step(&mut net, &configs, &mut choices);
    }
    recover(net);
}

const PASSIVE: u8 = 1;

fn config(router_id: u32, choice: u8) -> PeerConfig {
    let mut config = PeerConfig::new(Asn(65_000), RouterId(router_id));
    config.passive = choice & PASSIVE != 0;
    if choice & 2 != 0 {
        config.graceful_restart = None;
    }
    config.extended_message = choice & 4 == 0;
    config.hold_time_secs = if choice & 8 != 0 { 3 } else { 9 };
    config.idle_hold_max = IDLE_HOLD_MAX;
    config.jitter_seed = u64::from(choice >> 4);
    config
}

fn step(net: &mut Net, configs: &[PeerConfig; 2], choices: &mut Choices<'_>) {
    let operation = choices.octet();
    // The high bit says who.
    let host = usize::from(operation >> 7);
    match operation & 0x0f {
        0 | 1 => net.run(Duration::from_millis(u64::from(choices.number() % 20_000))),
        2 => net.run(Duration::from_millis(u64::from(choices.below(16)))),
        3 => net.inject(host, choices.octets(64)),
        4 => net.inject(host, END_OF_RIB),
        5 => {
            let reason = stop_reason(choices.octet());
            // Two that refuse each other for good cannot meet again.
            if !matches!(reason, StopReason::Deconfigured) {
                net.with(host, |peer, now| peer.stop(now, reason));
            }
        }
        6 => net.with(host, |peer, now| peer.start(now)),
        7 => net.crash(host, configs[host].clone(), choices.flag()),
        8 => net.latency[host] = Duration::from_millis(u64::from(choices.octet())),
        9 => net.piece = usize::from(choices.octet()).max(1),
        10 => net.cut = choices.flag(),
        11 => {
            let config = PeerConfig { passive: configs[host].passive, ..config(host as u32 + 1, choices.octet()) };
            net.with(host, |peer, now| peer.set_config(now, config));
        }
        12 => net.with(host, |peer, _| peer.set_restarting(true)),
        _ => net.piece = usize::MAX,
    }
    for host in 0..2 {
        assert!(net.connections(host) <= 2, "at most two connections: {:#?}", net.log[host]);
    }
}

fn recover(mut net: Net) {
    net.cut = false;
    net.piece = usize::MAX;
    net.latency = [Duration::from_millis(1); 2];
    net.run(Duration::from_secs(1));
    net.start();
    net.run(RECOVERY);
    for host in 0..2 {
        let state = net.hosts[host].state();
        assert_eq!(state, State::Established, "host {host} after {RECOVERY:?}: {:#?}", net.log);
        assert_eq!(net.connections(host), 1, "host {host}: {:#?}", net.log);
        assert_eq!(net.up[host], 1, "host {host}: {:#?}", net.log);
    }
}
