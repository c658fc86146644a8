//! The catalogue of hostile input, played at a socket of a reflector among healthy peers: see `tests::catalogue`.

use tests::catalogue::run::run;
use tests::catalogue::scene::Scene;
use tests::catalogue::{framing, header};

#[test]
fn tcp_and_the_message_header_harm_only_their_own_connection() {
    run("A", &Scene::new(""), &header::rows());
}

#[test]
fn updates_that_are_framed_wrongly_are_contained() {
    run("C", &Scene::new(""), &framing::rows());
}
