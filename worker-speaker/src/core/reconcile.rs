//! What becomes of attachments whose end, or whose beginning, nobody told the worker of: a pure decision.
//!
//! A file says that an ADD was carried out and is written before its reply; an interface says that a pod is there, since the
//! kernel removes it with the pod's namespace. So an interface without a file belongs to an ADD that nobody was told of (the
//! worker died on it), and a file without an interface to a pod that is gone. An interface is never removed here: whatever
//! the files say, it may lead to a pod that runs. It goes with its pod, by DEL, or when its ADD comes again.

use std::collections::BTreeMap;

use bgp_core::types::Vni;
use dataplane::PortId;

use super::Attachment;

/// The file of an attachment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// What it says.
    pub attachment: Attachment,
    /// It was written since this machine has started; the interface of an older one is gone, whoever has its name now.
    pub this_boot: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The interface is there and its file is right: announce it again.
    pub announce: Vec<Attachment>,
    /// The interface is there and no file is right: it is a member, of which nothing is announced but what it says.
    pub adopt: Vec<PortId>,
    /// The file is of no more use.
    pub forget: Vec<PortId>,
}

/// Compares files with the ports that the kernel shows, each with its LAN.
pub fn reconcile(records: Vec<Record>, ports: &BTreeMap<PortId, Vni>) -> Plan {
    let mut plan = Plan::default();
    let mut unclaimed = ports.clone();
    for Record { attachment, this_boot } in records {
        let is_right = this_boot && ports.get(&attachment.port) == Some(&attachment.vni);
        if is_right && unclaimed.remove(&attachment.port).is_some() {
            plan.announce.push(attachment);
        } else {
            plan.forget.push(attachment.port);
        }
    }
    plan.adopt = unclaimed.into_keys().collect();
    plan
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bgp_core::types::MacAddr;
    use proptest::prelude::*;

    use super::*;

    /// What may be on a machine of one attachment.
    #[derive(Clone, Copy, Debug)]
    struct Past {
        /// Its ADD got as far as its interface.
        made: bool,
        /// Its ADD got as far as its file.
        written: bool,
        /// Its file is from before the last start of the machine.
        old: bool,
        /// Its file names another LAN than its interface is in.
        moved: bool,
        /// Its pod's namespace lives.
        alive: bool,
    }

    fn pasts() -> impl Strategy<Value = Vec<Past>> {
        let past =
            any::<[bool; 5]>().prop_map(|[made, written, old, moved, alive]| Past { made, written, old, moved, alive });
        proptest::collection::vec(past, 0..12)
    }

    fn id(at: usize) -> PortId {
        PortId::attachment(&format!("pod{at}"), "eth0")
    }

    fn vni(number: u32) -> Vni {
        Vni::new(number).unwrap()
    }

    fn attachment(at: usize, past: Past) -> Attachment {
        let mac = MacAddr([2, 0, 0, 0, 0, u8::try_from(at).unwrap()]);
        let lan = if past.moved { 9 } else { 7 };
        Attachment { mac, ..Attachment::new(id(at), vni(lan)) }
    }

    proptest! {
        #[test]
        fn whatever_happened_unseen_the_living_stay_members_and_the_dead_are_forgotten(pasts in pasts()) {
            let numbered = || pasts.iter().copied().enumerate();
            // The kernel removes an interface with its pod's namespace.
            let in_kernel = |past: Past| past.made && past.alive;
            let ports: BTreeMap<PortId, Vni> =
                numbered().filter(|(_, past)| in_kernel(*past)).map(|(at, _)| (id(at), vni(7))).collect();
            let records: Vec<Record> = numbered()
                .filter(|(_, past)| past.written)
                .map(|(at, past)| Record { attachment: attachment(at, past), this_boot: !past.old })
                .collect();
            let plan = reconcile(records, &ports);

            let announced: BTreeSet<PortId> = plan.announce.iter().map(|one| one.port.clone()).collect();
            for (at, past) in numbered() {
                let right = past.written && !past.old && !past.moved && in_kernel(past);
                prop_assert_eq!(announced.contains(&id(at)), right, "announced: {:?}", past);
                prop_assert_eq!(plan.adopt.contains(&id(at)), in_kernel(past) && !right, "a member: {:?}", past);
                prop_assert_eq!(plan.forget.contains(&id(at)), past.written && !right, "forgotten: {:?}", past);
            }
            // Done is done.
            let kept = plan.announce.iter().cloned().map(|attachment| Record { attachment, this_boot: true });
            let again = reconcile(kept.collect(), &ports);
            prop_assert_eq!(again, Plan { forget: Vec::new(), ..plan });
        }
    }

    #[test]
    fn of_two_files_for_one_interface_the_first_counts() {
        let past = Past { made: true, written: true, old: false, moved: false, alive: true };
        let record = Record { attachment: attachment(1, past), this_boot: true };
        let plan = reconcile(vec![record.clone(), record], &BTreeMap::from([(id(1), vni(7))]));
        assert_eq!((plan.announce.len(), plan.adopt.len(), plan.forget.len()), (1, 0, 1));
    }
}
