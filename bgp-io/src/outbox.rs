//! One peer's way to the owner: events in order, without ever blocking the peer's task.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::mpsc::{OwnedPermit, Sender};

use crate::api::Event;

type Reservation = Pin<Box<dyn Future<Output = Result<OwnedPermit<Event>, SendError<()>>> + Send>>;

/// Events that could not be delivered yet. The task reads nothing from its peer while there are any, so there are few:
/// those of one read, and those of the session's end.
pub(crate) struct Outbox {
    sender: Sender<Event>,
    waiting: VecDeque<Event>,
    reservation: Option<Reservation>,
    abandoned: bool,
}

impl Outbox {
    pub(crate) const fn new(sender: Sender<Event>) -> Self {
        Self { sender, waiting: VecDeque::new(), reservation: None, abandoned: false }
    }

    /// Delivers an event, now or later. Of several states in a row only the last is kept.
    pub(crate) fn push(&mut self, event: Event) {
        if self.abandoned {
            return;
        }
        if !self.waiting.is_empty() {
            return self.queue(event);
        }
        match self.sender.try_send(event) {
            Ok(()) => {}
            Err(TrySendError::Full(event)) => self.queue(event),
            Err(TrySendError::Closed(_)) => self.abandon(),
        }
    }

    fn queue(&mut self, event: Event) {
        match (self.waiting.back_mut(), event) {
            (Some(last @ Event::State { .. }), event @ Event::State { .. }) => *last = event,
            (_, event) => self.waiting.push_back(event),
        }
    }

    /// Nobody listens any more.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
        self.waiting.clear();
        self.reservation = None;
    }

    /// Whether everything has been delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Delivers what waits; ready when some of it has gone.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_empty() {
            return Poll::Pending;
        }
        let sender = &self.sender;
        let reservation = self.reservation.get_or_insert_with(|| Box::pin(sender.clone().reserve_owned()));
        let permit = std::task::ready!(reservation.as_mut().poll(cx));
        self.reservation = None;
        match (permit, self.waiting.pop_front()) {
            (Ok(permit), Some(event)) => drop(permit.send(event)),
            (Ok(_), None) => {}
            (Err(_), _) => self.abandon(),
        }
        while let Some(event) = self.waiting.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    break;
                }
                Err(TrySendError::Closed(_)) => self.abandon(),
            }
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bgp_core::session::State;
    use bgp_core::types::PeerId;
    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::api::SessionId;

    fn ready(session: u64) -> Event {
        Event::WriterReady { peer: PeerId(1), session: SessionId(session) }
    }

    fn state(state: State) -> Event {
        Event::State { peer: PeerId(1), state, error: None }
    }

    #[tokio::test]
    async fn events_arrive_in_order_however_slow_the_owner_is() {
        let (sender, mut receiver) = channel(1);
        let mut outbox = Outbox::new(sender);
        (0..5).for_each(|session| outbox.push(ready(session)));
        assert_eq!(outbox.waiting.len(), 4);
        for expected in 0..5 {
            let Some(Event::WriterReady { session, .. }) = receiver.recv().await else { panic!("an event is lost") };
            assert_eq!(session, SessionId(expected));
            if !outbox.is_empty() {
                poll_fn(|cx| outbox.poll_flush(cx)).await;
            }
        }
        assert!(outbox.is_empty());
    }

    #[tokio::test]
    async fn only_the_last_of_several_states_waits() {
        let (sender, mut receiver) = channel(1);
        let mut outbox = Outbox::new(sender);
        outbox.push(ready(1));
        for _ in 0..100 {
            outbox.push(state(State::Connect));
            outbox.push(state(State::Active));
        }
        assert_eq!(outbox.waiting.len(), 1);
        receiver.recv().await;
        poll_fn(|cx| outbox.poll_flush(cx)).await;
        let last = receiver.recv().await;
        assert!(matches!(last, Some(Event::State { state: State::Active, .. })), "{last:?}");
    }

    #[tokio::test]
    async fn nothing_waits_for_an_owner_that_is_gone() {
        let (sender, receiver) = channel(1);
        let mut outbox = Outbox::new(sender);
        outbox.push(ready(1));
        outbox.push(ready(2));
        drop(receiver);
        poll_fn(|cx| outbox.poll_flush(cx)).await;
        outbox.push(ready(3));
        assert!(outbox.is_empty());
    }
}
