//! Other people's daemons beside ours, in both roles: as the reflector between our workers, and as a client of our
//! reflector. Tables are compared route by route and attribute by attribute; where a daemon differs, [`waivers`] says
//! which RFC speaks otherwise, and a waiver that no longer applies fails the test.

mod away;
mod client;
mod openbgpd;
mod originate;
mod reflector;
mod samples;
mod waivers;

/// One test for each daemon.
macro_rules! for_each_peer {
    ($check:path) => {
        #[test]
        fn frr_of_this_debian() {
            $check(tests::peers::Software::FrrDebian);
        }
        #[test]
        fn frr_of_sid() {
            $check(tests::peers::Software::FrrSid);
        }
        #[test]
        fn gobgp() {
            $check(tests::peers::Software::Gobgp);
        }
        #[test]
        fn bird() {
            $check(tests::peers::Software::Bird);
        }
        #[test]
        fn openbgpd() {
            $check(tests::peers::Software::Openbgpd);
        }
    };
}
use for_each_peer;
