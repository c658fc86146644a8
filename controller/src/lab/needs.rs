//! What of the kernel a lab's startup lines need, as far as their words tell.
//!
//! In: the startup scripts and `exec` commands, taken apart into commands and words; nothing is run. Out:
//! kernel features that not every kernel has, each with the lines that ask for it. Whether this kernel has
//! them is for others to find out.

use super::error::Location;
use super::model::{Lab, Script};

/// Words that may stand before a command in a shell script.
const LEADING_WORDS: [&str; 9] = ["!", "{", "do", "else", "if", "sudo", "then", "until", "while"];

/// A part of the kernel's network that kernels are built without.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KernelFeature {
    /// Links of a type: `bond`, `vlan`, `vrf` and so on.
    Link(String),
    /// A queueing discipline: `netem` and so on.
    QueueingDiscipline(String),
    /// Bridges that keep VLANs apart.
    BridgeVlanFiltering,
    /// Forwarding by MPLS labels.
    MplsRouting,
}

/// A feature and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelNeed {
    /// The feature.
    pub feature: KernelFeature,
    /// Every line that needs it; never empty.
    pub places: Vec<Location>,
}

impl Lab {
    /// The kernel features that the lab's startup needs, in the order in which it asks for them.
    pub fn kernel_needs(&self) -> Vec<KernelNeed> {
        let mut needs = Needs::default();
        if let Some(script) = &self.shared_startup {
            needs.scan_script(script);
        }
        for device in &self.devices {
            if let Some(script) = &device.startup {
                needs.scan_script(script);
            }
            for command in &device.options.exec {
                needs.scan_line(command, || Location::file(format!("lab.conf, exec of {}", device.name)));
            }
        }
        needs.found
    }
}

#[derive(Default)]
struct Needs {
    found: Vec<KernelNeed>,
}

impl Needs {
    fn scan_script(&mut self, script: &Script) {
        let name = script.path.file_name().unwrap_or(script.path.as_os_str()).to_string_lossy();
        let text = String::from_utf8_lossy(&script.text);
        for (line, number) in text.lines().zip(1..) {
            self.scan_line(line, || Location::line(&*name, number));
        }
    }

    fn scan_line(&mut self, line: &str, place: impl Fn() -> Location) {
        for command in line.split([';', '|', '&']) {
            let Some(feature) = needed_by(command) else { continue };
            match self.found.iter_mut().find(|need| need.feature == feature) {
                Some(need) => need.places.push(place()),
                None => self.found.push(KernelNeed { feature, places: vec![place()] }),
            }
        }
    }
}

/// The feature that one command needs.
fn needed_by(command: &str) -> Option<KernelFeature> {
    let words = command.split_whitespace().map(|word| word.trim_matches(['"', '\'', '(', ')']));
    let words = words.take_while(|word| !word.starts_with('#'));
    let words: Vec<&str> = words.skip_while(|word| LEADING_WORDS.contains(word) || word.contains('=')).collect();
    let (program, arguments) = words.split_first()?;
    match program.rsplit('/').next()? {
        "ip" => needed_by_ip(arguments),
        "bridge" => {
            let is_vlan = starts_with(arguments, &["vlan", "add"]) || starts_with(arguments, &["vlan", "set"]);
            is_vlan.then_some(KernelFeature::BridgeVlanFiltering)
        }
        "tc" => needed_by_tc(arguments),
        "vconfig" => Some(KernelFeature::Link("vlan".to_owned())),
        "ifenslave" => Some(KernelFeature::Link("bond".to_owned())),
        "sysctl" => {
            let is_mpls = arguments.iter().any(|word| word.starts_with("net.mpls.") || word.starts_with("net/mpls/"));
            is_mpls.then_some(KernelFeature::MplsRouting)
        }
        _ => None,
    }
}

fn needed_by_ip(arguments: &[&str]) -> Option<KernelFeature> {
    if matches!(word_after(arguments, "vlan_filtering"), Some("1" | "on")) {
        return Some(KernelFeature::BridgeVlanFiltering);
    }
    let is_mpls = ["encap", "-f", "-family"].iter().any(|word| word_after(arguments, word) == Some("mpls"));
    if is_mpls || arguments.contains(&"-M") {
        return Some(KernelFeature::MplsRouting);
    }
    let words: Vec<&str> = arguments.iter().copied().skip_while(|word| word.starts_with('-')).collect();
    let (object, rest) = words.split_first()?;
    if !matches!(*rest.first()?, "a" | "add") {
        return None;
    }
    let kind = if abbreviates(object, "link") {
        word_after(rest, "type")?
    } else if abbreviates(object, "tunnel") {
        match word_after(rest, "mode")? {
            "ip6ip6" | "ipip6" => "ip6tnl",
            "isatap" => "sit",
            mode => mode,
        }
    } else {
        return None;
    };
    Some(KernelFeature::Link(kind.to_owned()))
}

fn needed_by_tc(arguments: &[&str]) -> Option<KernelFeature> {
    let mut words = arguments.iter().copied().skip_while(|word| word.starts_with('-'));
    if !abbreviates(words.next()?, "qdisc") || !matches!(words.next()?, "add" | "replace" | "change") {
        return None;
    }
    while let Some(word) = words.next() {
        match word {
            "dev" | "parent" | "handle" | "estimator" => drop(words.next()?),
            "root" => {}
            kind => return Some(KernelFeature::QueueingDiscipline(kind.to_owned())),
        }
    }
    None
}

/// Whether `word` is what iproute2 takes for `whole`.
fn abbreviates(word: &str, whole: &str) -> bool {
    !word.is_empty() && whole.starts_with(word)
}

fn starts_with(words: &[&str], beginning: &[&str]) -> bool {
    words.get(..beginning.len()) == Some(beginning)
}

fn word_after<'a>(words: &[&'a str], before: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == before)?;
    words.get(at + 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Device;

    fn link(kind: &str) -> Option<KernelFeature> {
        Some(KernelFeature::Link(kind.to_owned()))
    }

    fn discipline(kind: &str) -> Option<KernelFeature> {
        Some(KernelFeature::QueueingDiscipline(kind.to_owned()))
    }

    #[test]
    fn a_command_tells_the_feature_that_it_needs() {
        let vlans = Some(KernelFeature::BridgeVlanFiltering);
        let mpls = Some(KernelFeature::MplsRouting);
        for (command, expected) in [
            ("ip link add bond1 type bond miimon 100", link("bond")),
            ("/sbin/ip -4 l a link eth0 name eth0.5 type vlan id 5", link("vlan")),
            ("ip tunnel add t mode ipip remote 2.2.2.2 local 1.1.1.1", link("ipip")),
            ("ip link set dev br100 type bridge vlan_filtering 1", vlans.clone()),
            ("ip link add br0 type bridge vlan_filtering 1", vlans.clone()),
            ("bridge vlan add vid 10 dev eth0", vlans),
            ("tc qdisc add dev eth0 root netem delay 10ms", discipline("netem")),
            ("tc qdisc add dev eth0 parent 1:1 handle 10: tbf rate 1mbit", discipline("tbf")),
            ("ip route add 10.0.0.0/8 encap mpls 100 via 10.1.1.1", mpls.clone()),
            ("sysctl -w net.mpls.platform_labels=1000", mpls),
            ("then ip link add vrf1 type vrf table 10", link("vrf")),
        ] {
            assert_eq!(needed_by(command), expected, "{command}");
        }
    }

    #[test]
    fn what_needs_nothing_or_is_a_comment_is_passed_over() {
        for command in [
            "",
            "# ip link add bond1 type bond",
            "ip link # add x type bond",
            "ip link set br0 type bridge vlan_filtering 0",
            "ip link set eth0 master bond1",
            "ip link add",
            "ip address add 10.0.0.1/24 dev eth0",
            "tc qdisc show dev eth0",
            "tc qdisc add dev",
            "bridge vlan show",
            "echo ip link add bond1 type bond",
        ] {
            assert_eq!(needed_by(command), None, "{command}");
        }
    }

    #[test]
    fn every_line_that_needs_a_feature_is_named() {
        let script = |name: &str, text: &str| Some(Script { path: name.into(), text: text.as_bytes().to_vec() });
        let mut leaf = Device { name: "leaf".to_owned(), ..Device::default() };
        leaf.startup =
            script("/labs/x/leaf.startup", "ip link add b type bond\n\nip l add c type bond && bridge vlan add\n");
        leaf.options.exec = vec!["ip link add d type bond".to_owned()];
        let shared_startup = script("/labs/x/shared.startup", "ip link add v type vrf\n");
        let needs = Lab { devices: vec![leaf], shared_startup, ..Lab::default() }.kernel_needs();
        let texts: Vec<(KernelFeature, Vec<String>)> = needs
            .into_iter()
            .map(|need| (need.feature, need.places.iter().map(ToString::to_string).collect()))
            .collect();
        let bond = ["leaf.startup:1", "leaf.startup:3", "lab.conf, exec of leaf"].map(str::to_owned).to_vec();
        assert_eq!(
            texts,
            [
                (KernelFeature::Link("vrf".to_owned()), vec!["shared.startup:1".to_owned()]),
                (KernelFeature::Link("bond".to_owned()), bond),
                (KernelFeature::BridgeVlanFiltering, vec!["leaf.startup:3".to_owned()]),
            ]
        );
    }
}
