//! The catalogue of hostile input, played at a socket of a reflector among healthy peers: see `tests::catalogue`.

use std::collections::BTreeSet;

use tests::catalogue::run::run;
use tests::catalogue::scene::{Scene, dialled};
use tests::catalogue::{
    Play, attributes, evpn, forwarding, framing, header, ids, multiprotocol, notification, open, sections, volume,
    worker,
};

#[test]
fn tcp_and_the_message_header_harm_only_their_own_connection() {
    run("A", &Scene::new(""), &header::rows());
}

#[test]
fn an_open_is_answered_with_what_is_wrong_with_it() {
    run("B", &Scene::new(&dialled(2)), &open::rows());
}

#[test]
fn updates_that_are_framed_wrongly_are_contained() {
    run("C", &Scene::new(""), &framing::rows());
}

#[test]
fn notifications_refreshes_and_timers_end_only_their_own_session() {
    run("G", &Scene::new(""), &notification::rows());
}

#[test]
fn volume_is_at_the_cost_of_who_sends_it() {
    let workers = format!("max_remote_macs = {}\n", volume::MAX_REMOTE_MACS);
    run("H", &Scene::with_workers("", &workers), &volume::rows());
}

#[test]
fn a_hostile_reflector_harms_only_its_own_session_with_a_worker() {
    let rows: Vec<_> = sections().into_iter().flat_map(|(_, rows)| rows).collect();
    worker::run("worker", &rows);
}

#[test]
fn path_attributes_that_are_wrong_are_contained_and_never_travel() {
    run("D", &Scene::new(""), &attributes::rows());
}

#[test]
fn multiprotocol_attributes_that_cannot_be_read_end_only_their_own_session() {
    run("E", &Scene::new(""), &multiprotocol::rows());
}

#[test]
fn evpn_routes_that_are_wrong_are_contained_or_end_their_own_session() {
    run("F routes", &Scene::new(""), &evpn::rows());
}

#[test]
fn well_formed_routes_lead_no_frame_where_it_must_not_go() {
    run("F forwarding", &Scene::new(""), &forwarding::rows());
}

#[test]
fn every_row_of_the_catalogue_is_tried_or_has_a_reason_why_not() {
    let rows: Vec<_> = sections().into_iter().flat_map(|(_, rows)| rows).collect();
    let found: BTreeSet<String> = rows.iter().map(|row| row.id.to_owned()).collect();
    let wanted: BTreeSet<String> = ids::SECTIONS.iter().flat_map(|(section, ..)| ids::of(*section)).collect();
    assert_eq!(found, wanted);
    let reasons = rows.iter().filter_map(|row| match row.play {
        Play::NotApplicable(reason) => Some((row.id, reason)),
        _ => None,
    });
    for (id, reason) in reasons {
        assert!(reason.split_whitespace().count() > 5, "{id}: {reason:?} is no reason");
    }
}
