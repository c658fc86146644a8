//! What a session stands on: TCP-MD5 (RFC 2385), GTSM (RFC 5082), AS numbers. Where both sides agree it comes up; where
//! they do not, our side says what is wrong and what to do.

use tests::fabric::Family;
use tests::peers::Software;
use tests::wait;

use crate::lab::{Lab, Role};

const DEFAULT: Role<'static> = Role::of(Software::FrrSid);
const KEY: &str = "password open-sesame";
const OUR_KEY: &str = "password = \"open-sesame\"";
const GTSM: &str = "ttl-security hops 1";
const OUR_GTSM: &str = "gtsm = true";

#[test]
fn a_lan_is_whole_over_sessions_with_key_and_gtsm() {
    let both = "password = \"open-sesame\"\ngtsm = true";
    for (asn, session, neighbor, settings) in [
        (65_000, Family::V4, &[KEY][..], OUR_KEY),
        (65_000, Family::V6, &[KEY], OUR_KEY),
        (64_512, Family::V4, &[KEY], OUR_KEY),
        (64_512, Family::V4, &[GTSM], OUR_GTSM),
        (64_512, Family::V6, &[GTSM], OUR_GTSM),
        (65_000, Family::V4, &[GTSM], OUR_GTSM),
        // What leaves our side always satisfies GTSM, whoever dials.
        (64_512, Family::V4, &[GTSM], ""),
        (64_512, Family::V6, &[GTSM, "passive"], ""),
        (4_200_000_001, Family::V6, &[KEY, GTSM], both),
    ] {
        for software in [Software::FrrDebian, Software::FrrSid] {
            let role = Role { software, asn, session, neighbor, settings, ..DEFAULT };
            Lab::established(&role).wait_meeting();
        }
    }
}

#[test]
fn a_lan_is_whole_over_birds_sessions_with_key_and_gtsm() {
    const KEY: &str = "password \"open-sesame\";";
    const GTSM: &str = "ttl security on;";
    for (asn, session, neighbor, settings) in [
        (65_000, Family::V4, &[KEY][..], OUR_KEY),
        (64_512, Family::V6, &[KEY], OUR_KEY),
        (64_512, Family::V4, &[GTSM], OUR_GTSM),
        (65_000, Family::V6, &[GTSM], OUR_GTSM),
        (4_200_000_001, Family::V4, &[GTSM], ""),
    ] {
        let role = Role { asn, session, neighbor, settings, ..Role::of(Software::Bird) };
        Lab::established(&role).wait_meeting();
    }
}

/// What our side says of the other in the end.
fn wait_words(role: &Role<'_>, words: &[&str]) {
    let lab = Lab::start(role);
    wait::until(&format!("words with {words:?}"), || {
        let peer = lab.reflector.peer(&lab.their_session()).unwrap_or_default();
        let error = peer.last_error.unwrap_or_default();
        let is_said = peer.state != "Established" && words.iter().all(|word| error.contains(word));
        if is_said { Ok(()) } else { Err(format!("{}: {error}", peer.state)) }
    });
}

#[test]
fn what_does_not_fit_is_said_with_its_cure() {
    for (neighbor, asn, settings, words) in [
        (&["password theirs"][..], 65_000, OUR_KEY, &["same TCP-MD5 key"][..]),
        (&[], 65_000, OUR_KEY, &["same TCP-MD5 key"]),
        (&[KEY], 65_000, "", &["no TCP-MD5 key"]),
        (&[], 64_512, OUR_GTSM, &["GTSM", "TTL 255"]),
        (&["passive"], 64_512, OUR_GTSM, &["uses GTSM too"]),
        (&["local-as 64513 no-prepend replace-as"], 64_512, "", &["64513", "64512"]),
        (&["remote-as 64999"], 64_512, "", &["Bad Peer AS", "correct ours there"]),
    ] {
        let role = Role { asn, neighbor, settings, ..DEFAULT };
        wait_words(&role, words);
    }
}
