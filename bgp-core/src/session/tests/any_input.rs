//! No sequence of inputs panics, makes timers insane, or breaks what the owner relies on.

use proptest::prelude::*;

use super::*;
use crate::time::Duration;

#[derive(Clone, Debug)]
enum Input {
    Start,
    Stop(StopReason),
    Connected(Direction),
    ConnectFailed,
    Received(Vec<u8>),
    Closed,
    Written(usize, SendQueue),
    Pending,
    Passive(bool),
    Wait(u64),
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let router_id = 0..4_u32;
    prop_oneof![
        3 => router_id.prop_map(|id| open_of(&config(id))),
        3 => Just(KEEPALIVE.to_vec()),
        1 => Just(END_OF_RIB.to_vec()),
        1 => Just(notification(NotificationCode::CEASE_CONNECTION_COLLISION)),
        1 => Just(notification(NotificationCode::CEASE_HARD_RESET)),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (proptest::collection::vec(any::<u8>(), 0..40), 19..60_u8, 0..7_u8).prop_map(|(body, length, kind)| {
            [&[0xff; 16][..], &[0, length, kind], &body].concat()
        }),
    ]
}

fn stop_reason() -> impl Strategy<Value = StopReason> {
    prop_oneof![
        "\\PC{0,300}".prop_map(|communication| StopReason::Shutdown { communication }),
        Just(StopReason::HardReset),
        Just(StopReason::Restart),
        Just(StopReason::Reset { administrative: false }),
        Just(StopReason::OutOfResources),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        2 => Just(Input::Start),
        1 => stop_reason().prop_map(Input::Stop),
        4 => prop_oneof![Just(Direction::Incoming), Just(Direction::Outgoing)].prop_map(Input::Connected),
        1 => Just(Input::ConnectFailed),
        10 => message().prop_map(Input::Received),
        1 => Just(Input::Closed),
        2 => (0..100_000_usize, prop_oneof![Just(SendQueue::Empty), Just(SendQueue::Pending)])
            .prop_map(|(octets, queue)| Input::Written(octets, queue)),
        1 => Just(Input::Pending),
        1 => any::<bool>().prop_map(Input::Passive),
        3 => (0..20_000_u64).prop_map(Input::Wait),
    ]
}

/// Connections as the driver sees them, to hold the peer to its word.
#[derive(Default)]
struct Driver {
    next: u32,
    open: Vec<ConnectionId>,
    up: bool,
}

impl Driver {
    fn apply(&mut self, peer: &mut Peer, now: &mut Instant, input: Input, choice: usize) {
        let chosen = self.open.get(choice % self.open.len().max(1)).copied().unwrap_or(ConnectionId(u32::MAX));
        match input {
            Input::Start => peer.start(*now),
            Input::Stop(reason) => peer.stop(*now, reason),
            Input::Connected(direction) => {
                self.next += 1;
                self.open.push(ConnectionId(self.next));
                peer.connected(*now, ConnectionId(self.next), direction);
            }
            Input::ConnectFailed => peer.connect_failed(*now),
            Input::Received(bytes) => peer.received(*now, chosen, &bytes),
            Input::Closed => peer.closed(*now, chosen),
            Input::Written(octets, queue) => peer.written(*now, chosen, octets, queue),
            Input::Pending => peer.input_pending(*now, chosen),
            Input::Passive(passive) => peer.set_config(*now, PeerConfig { passive, ..config(1) }),
            Input::Wait(millis) => *now = *now + Duration::from_millis(millis),
        }
    }

    fn drain(&mut self, peer: &mut Peer) {
        while let Some(output) = peer.poll_output() {
            match output {
                Output::Send(id, bytes) => {
                    assert!(self.open.contains(&id), "nothing is sent to a closed connection");
                    frames(&bytes);
                }
                Output::Close(id) => {
                    assert!(self.open.contains(&id), "a connection is closed once");
                    self.open.retain(|open| *open != id);
                }
                Output::Established(..) => {
                    assert!(!self.up);
                    self.up = true;
                }
                Output::Down(_) => {
                    assert!(self.up);
                    self.up = false;
                }
                Output::Update(_) | Output::RouteRefresh(_) => assert!(self.up, "routes come between up and down"),
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_inputs_is_survived_and_deadlines_stay_sane(
        inputs in proptest::collection::vec((input(), 0..4_usize), 0..60)
    ) {
        let mut peer = Peer::new(config(1));
        let mut driver = Driver::default();
        let mut now = Instant::from_secs(1);
        for (input, choice) in inputs {
            driver.apply(&mut peer, &mut now, input, choice);
            driver.drain(&mut peer);
            // A timer that is due is acted upon: the driver never spins.
            for _ in 0..4 {
                peer.handle_timeout(now);
                driver.drain(&mut peer);
            }
            let deadline = peer.next_deadline();
            prop_assert!(deadline.is_none_or(|at| at > now), "{deadline:?} is not after {now:?}");
            prop_assert!(deadline.is_none_or(|at| at <= now + Duration::from_secs(500)));
            prop_assert!(peer.connections.len() <= 2);
            prop_assert_eq!(peer.state() == State::Established, driver.up);
            let mut open: Vec<_> = peer.connections.iter().map(|connection| connection.id).collect();
            open.sort();
            prop_assert_eq!(open, driver.open.clone());
        }
    }
}
