//! What a lab asks for that the local mode accepts but does not act on.

use serde::{Deserialize, Serialize};

use super::model::{Device, Lab};

/// Devices named in one line of the report; the rest is counted.
const NAMED_MAX: usize = 8;

/// One kind of request without effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotActing {
    /// The option, or the file.
    pub what: String,
    /// The devices that ask for it; empty where it concerns the lab as a whole.
    pub devices: Vec<String>,
    /// One line for people: what has no effect, on which devices, and what happens instead.
    pub text: String,
}

/// An option that the local mode passes over.
struct Rule {
    option: &'static str,
    is_asked: fn(&Device) -> bool,
    instead: &'static str,
}

const RULES: [Rule; 8] = [
    Rule { option: "mem", is_asked: |device| device.options.mem.is_some(), instead: "memory is not limited here" },
    Rule {
        option: "cpus",
        is_asked: |device| device.options.cpus.is_some(),
        instead: "processors are not limited here",
    },
    Rule {
        option: "bridged",
        is_asked: |device| device.options.bridged == Some(true),
        instead: "devices have no link to the host's network here",
    },
    Rule {
        option: "port",
        is_asked: |device| !device.options.ports.is_empty(),
        instead: "no port is published on the host here",
    },
    Rule {
        option: "privileged",
        is_asked: |device| device.options.privileged == Some(true),
        instead: "every device has the same rights here",
    },
    Rule {
        option: "entrypoint",
        is_asked: |device| device.options.entrypoint.is_some(),
        instead: "it belongs to an image, and images are not used here",
    },
    Rule {
        option: "args",
        is_asked: |device| device.options.args.is_some(),
        instead: "they belong to an image, and images are not used here",
    },
    Rule {
        option: "num_terms",
        is_asked: |device| device.options.num_terms.is_some_and(|terminals| terminals > 0),
        instead: "no terminal is opened here: use `megalos connect DEVICE`",
    },
];

impl Lab {
    /// What the local mode does not act on: the image once for the lab, then one entry per kind.
    pub fn not_acting(&self) -> Vec<NotActing> {
        let mut report = Vec::new();
        let asking = self.devices_that(|device| device.options.image.is_some());
        if !asking.is_empty() {
            report.push(NotActing {
                what: "image".to_owned(),
                devices: asking,
                text: "image: images are not used here; devices see the programs of this machine".to_owned(),
            });
        }
        for rule in RULES {
            let devices = self.devices_that(rule.is_asked);
            if !devices.is_empty() {
                report.push(NotActing {
                    what: rule.option.to_owned(),
                    text: format!("{} of {}: {}", rule.option, name_some(&devices), rule.instead),
                    devices,
                });
            }
        }
        if !self.external.is_empty() {
            let mut lans: Vec<String> = self.external.iter().map(|link| link.lan.clone()).collect();
            lans.sort_unstable();
            lans.dedup();
            report.push(NotActing {
                what: "lab.ext".to_owned(),
                devices: Vec::new(),
                text: format!(
                    "lab.ext for {}: collision domains are not joined to the host's interfaces here",
                    name_some(&lans)
                ),
            });
        }
        report
    }

    fn devices_that(&self, is_asked: impl Fn(&Device) -> bool) -> Vec<String> {
        let asking = self.devices.iter().filter(|device| is_asked(device));
        asking.map(|device| device.name.clone()).collect()
    }
}

fn name_some(names: &[String]) -> String {
    let named = names.get(..NAMED_MAX).unwrap_or(names);
    let more = names.len() - named.len();
    let list = named.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}
