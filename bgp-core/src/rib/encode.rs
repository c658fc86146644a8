//! From destinations to messages: what the update groups ask of the wire codec.

use bytes::BytesMut;

use super::attribute_store::{AttributeId, AttributeStore};
use super::export::ExportPolicy;
use super::family::Family;
use super::table::{DestinationId, Table};
use crate::wire::message::{RefreshKind, RouteRefresh};
use crate::wire::{EncodeContext, EncodedAttributes, Message, announce, end_of_rib, withdraw};

/// Encodes routes of one family for one update group.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a, F: Family> {
    /// Where the routes are.
    pub table: &'a Table<F>,
    /// Where their attributes are.
    pub store: &'a AttributeStore,
    /// How the group's attributes are made.
    pub export: ExportPolicy,
    /// What the group's sessions negotiated.
    pub context: EncodeContext,
}

impl<F: Family> Encoder<'_, F> {
    /// Announces destinations whose selected routes have these attributes. Returns those that no message can hold; they
    /// have been withdrawn instead, lest an earlier form stay (RFC 4271 section 9.2).
    pub fn announce(&self, attributes: AttributeId, ids: &[DestinationId], out: &mut BytesMut) -> usize {
        let Some(set) = self.store.get(attributes) else { return 0 };
        let encoded = EncodedAttributes::new(&self.export.as_sent(set), &self.context);
        if announce::<F>(&self.context, &encoded, self.routes(ids), out).is_ok() {
            return 0;
        }
        let fits = |id: &DestinationId, out: &mut BytesMut| {
            announce::<F>(&self.context, &encoded, self.routes(core::slice::from_ref(id)), out).is_ok()
        };
        let too_long: Vec<DestinationId> = ids.iter().filter(|id| !fits(id, out)).copied().collect();
        self.withdraw(&too_long, out);
        too_long.len()
    }

    fn routes<'b>(&'b self, ids: &'b [DestinationId]) -> impl Iterator<Item = (&'b F::Key, &'b F::Payload)> {
        let destinations = ids.iter().filter_map(|id| self.table.get(*id));
        destinations.filter_map(|destination| Some((&destination.key, &destination.best()?.payload)))
    }

    /// Withdraws destinations.
    pub fn withdraw(&self, ids: &[DestinationId], out: &mut BytesMut) {
        if !ids.is_empty() {
            let keys = ids.iter().filter_map(|id| self.table.get(*id)).map(|destination| &destination.key);
            withdraw::<F>(&self.context, keys, out);
        }
    }

    /// The end-of-RIB marker.
    pub fn end_of_rib(&self, out: &mut BytesMut) {
        end_of_rib(F::FAMILY, out);
    }

    /// A border of a refresh (RFC 7313).
    pub fn refresh_border(&self, kind: RefreshKind, out: &mut BytesMut) {
        Message::RouteRefresh(RouteRefresh { family: F::FAMILY, kind }).encode(&self.context, out);
    }
}
