//! Many inputs on one session, each about a route of its own: for rows that are tables of values.

use std::borrow::Cow;

use super::actor::{self, Actor};
use super::stage::Stage;
use crate::bgp;
use crate::wait;

/// What becomes of the route that an input is about. All inputs of a batch leave the session up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is known everywhere.
    Kept,
    /// It was known everywhere and is nowhere now.
    Gone,
}

/// Makes the attributes of an UPDATE, without MP_REACH_NLRI, of those that are right.
type Change = Box<dyn Fn(Vec<Vec<u8>>) -> Vec<Vec<u8>> + Send + Sync>;

/// One input.
pub struct Case {
    what: Cow<'static, str>,
    fate: Fate,
    change: Change,
}

impl Case {
    /// The right attributes with this one in the place of the one of its type, or added.
    pub fn replacing(what: impl Into<Cow<'static, str>>, fate: Fate, attribute: Vec<u8>) -> Self {
        let change = move |mut attributes: Vec<Vec<u8>>| {
            attributes.retain(|other| other.get(1) != attribute.get(1));
            attributes.push(attribute.clone());
            attributes
        };
        Self { what: what.into(), fate, change: Box::new(change) }
    }
}

/// The route of case number `index`.
fn mac(actor: &Actor, index: usize) -> [u8; 6] {
    let [high, low] = u16::try_from(index).unwrap_or(u16::MAX).to_be_bytes();
    let [a, b] = [actor.key[3], actor.key[4]];
    [0x02, 0xcb, a, b, high, low]
}

/// Plays all cases on one session with these capabilities: the right routes first, then each input, and once all was
/// processed, looks for each route everywhere.
///
/// # Panics
///
/// With all cases whose route had another fate.
pub fn play(stage: &mut Stage<'_>, capabilities: &[u8], cases: &[Case]) {
    let mut connection = stage.establish(capabilities);
    let actor = stage.actor;
    let routes: Vec<_> = (0..cases.len()).map(|index| actor.route(mac(&actor, index))).collect();
    for part in routes.chunks(64) {
        connection.send(&actor.update_with(actor.base(), part));
    }
    if let Some(last) = cases.len().checked_sub(1) {
        stage.scene.wait_installed(mac(&actor, last));
    }
    for (case, route) in cases.iter().zip(&routes) {
        let attributes = (case.change)(actor.base());
        connection.send(&bgp::update(&[attributes, vec![actor.reach(std::slice::from_ref(route))]].concat()));
    }
    stage.barrier(&mut connection);
    stage.assert_up();
    wait::until("every route of the batch to be where it belongs", || {
        let known = stage.scene.known();
        let wrong = |(index, case): (usize, &Case)| {
            let text = actor::text(mac(&actor, index));
            let (found, everywhere) = (known.iter().filter(|macs| macs.contains(&text)).count(), known.len());
            let is_right = match case.fate {
                Fate::Kept => found == everywhere,
                Fate::Gone => found == 0,
            };
            (!is_right).then(|| format!("{} ({:?}): known in {found} of {everywhere} places", case.what, case.fate))
        };
        let wrong: Vec<_> = cases.iter().enumerate().filter_map(wrong).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    });
    stage.scene.wait_kernels_follow();
    stage.connection = Some(connection);
}
