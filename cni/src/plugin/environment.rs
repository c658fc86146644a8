//! The parameters that the runtime passes in the environment (CNI specification, section 2).
//!
//! In: variables by name. Out: an [`Environment`] that holds what its verb needs, or an error with code 4 that names the
//! variables.

use std::path::PathBuf;

use crate::plugin::error::PluginError;
use crate::types::{ContainerId, ErrorCode, InterfaceName, Name, SandboxPath};

/// What is asked of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Add the container to the network.
    Add,
    /// Remove it.
    Del,
    /// Is it as ADD left it?
    Check,
    /// Remove what belongs to no container any more.
    Gc,
    /// Could an ADD be served?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// As it stands in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }

    /// Whether it is about one container.
    fn has_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// The container that a verb is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// `CNI_CONTAINERID`.
    pub id: ContainerId,
    /// `CNI_IFNAME`.
    pub interface: InterfaceName,
    /// `CNI_NETNS`; a DEL may have none.
    pub sandbox: Option<SandboxPath>,
}

/// What `CNI_ARGS` holds for us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `MAC`.
    pub mac: Option<String>,
    /// `IP`: addresses separated by commas.
    pub ips: Option<String>,
    /// `K8S_POD_NAMESPACE`.
    pub pod_namespace: Option<Name>,
    /// `K8S_POD_NAME`.
    pub pod_name: Option<Name>,
}

/// The parameters of one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// For ADD, DEL and CHECK.
    pub container: Option<Container>,
    /// `CNI_ARGS`.
    pub args: Args,
    /// `CNI_PATH`: directories of plugins.
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// Reads the variables that `get` knows.
    ///
    /// # Errors
    /// Code 4, with the names of the variables that are missing or not valid.
    pub fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Self, PluginError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let verb = match get("CNI_COMMAND") {
            None => return Err(missing(&["CNI_COMMAND"])),
            Some(text) => Verb::parse(&text)
                .ok_or_else(|| PluginError::variable("CNI_COMMAND", &text, "ADD, DEL, CHECK, GC, STATUS or VERSION"))?,
        };
        let container = if verb.has_container() { Some(container(verb, get)?) } else { None };
        let args = match get("CNI_ARGS") {
            // What does not concern an ADD must not hinder another verb.
            Some(text) if verb == Verb::Add => parse_args(&text)?,
            Some(text) => parse_args(&text).unwrap_or_default(),
            None => Args::default(),
        };
        let path = get("CNI_PATH").iter().flat_map(|path| std::env::split_paths(path)).collect();
        Ok(Self { verb, container, args, path })
    }
}

fn container(verb: Verb, get: impl Fn(&str) -> Option<String>) -> Result<Container, PluginError> {
    let needed: &[&str] = match verb {
        Verb::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
        _ => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
    };
    let absent: Vec<&str> = needed.iter().copied().filter(|name| get(name).is_none()).collect();
    if !absent.is_empty() {
        return Err(missing(&absent));
    }
    let id = get("CNI_CONTAINERID").unwrap_or_default();
    let interface = get("CNI_IFNAME").unwrap_or_default();
    let sandbox = match get("CNI_NETNS") {
        Some(text) => match text.parse() {
            Ok(path) => Some(path),
            Err(_) if verb == Verb::Del => None,
            Err(error) => return Err(PluginError::variable("CNI_NETNS", &text, error)),
        },
        None => None,
    };
    Ok(Container {
        id: id.parse().map_err(|error| PluginError::variable("CNI_CONTAINERID", &id, error))?,
        interface: interface.parse().map_err(|error| PluginError::variable("CNI_IFNAME", &interface, error))?,
        sandbox,
    })
}

fn missing(names: &[&str]) -> PluginError {
    let names = names.join(", ");
    PluginError::new(
        ErrorCode::INVALID_PARAMETERS,
        format!("required environment variables are missing: {names}"),
        "this program is run by a container runtime, which sets them (CNI specification, section 2)",
    )
}

/// Parses `KEY=value;KEY=value`. Keys that are not ours are an error unless `IgnoreUnknown` says otherwise.
fn parse_args(text: &str) -> Result<Args, PluginError> {
    let mut args = Args::default();
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    let invalid = |expected: &str| PluginError::variable("CNI_ARGS", text, expected);
    for pair in text.split(';').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| invalid("pairs KEY=value separated by semicolons"))?;
        let given = (!value.is_empty()).then(|| value.to_owned());
        match key {
            "IgnoreUnknown" => ignore_unknown = matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T"),
            "MAC" => args.mac = given,
            "IP" => args.ips = given,
            // For people to read only: a name that is odd is left out.
            "K8S_POD_NAMESPACE" => args.pod_namespace = value.parse().ok(),
            "K8S_POD_NAME" => args.pod_name = value.parse().ok(),
            _ if key.starts_with("K8S_") => {}
            _ => unknown.push(key),
        }
    }
    if !ignore_unknown && !unknown.is_empty() {
        return Err(invalid(&format!("without unknown keys ({}), or with IgnoreUnknown=1", unknown.join(", "))));
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: [(&str, &str); 4] =
        [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "pod1"), ("CNI_NETNS", "/run/netns/a"), ("CNI_IFNAME", "net1")];

    /// The environment of an ADD with these variables set otherwise.
    fn parse(changes: &[(&str, &str)]) -> Result<Environment, PluginError> {
        Environment::parse(|name| {
            let changed = changes.iter().find(|(key, _)| *key == name);
            changed.or_else(|| ADD.iter().find(|(key, _)| *key == name)).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_of_a_runtime_is_understood() {
        let args = "IgnoreUnknown=true;K8S_POD_NAMESPACE=lab;K8S_POD_NAME=pc1;K8S_POD_UID=u;MAC=02:00:00:00:00:01;\
                    IP=10.0.0.1/24,fd00::1/64;X=a=b";
        let environment = parse(&[("CNI_ARGS", args), ("CNI_PATH", "/a:/b")]).unwrap();
        assert_eq!(environment.verb, Verb::Add);
        let container = environment.container.unwrap();
        assert_eq!((container.id.as_str(), container.interface.as_str()), ("pod1", "net1"));
        assert_eq!(environment.args.mac.as_deref(), Some("02:00:00:00:00:01"));
        assert_eq!(environment.args.ips.as_deref(), Some("10.0.0.1/24,fd00::1/64"));
        assert_eq!(environment.args.pod_name.unwrap().as_str(), "pc1");
        assert_eq!(environment.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }

    #[test]
    fn what_is_wrong_is_named_with_code_4() {
        for (change, named) in [
            (("CNI_COMMAND", ""), "CNI_COMMAND"),
            (("CNI_COMMAND", "add"), "CNI_COMMAND"),
            (("CNI_CONTAINERID", ""), "CNI_CONTAINERID"),
            (("CNI_CONTAINERID", "a/b"), "CNI_CONTAINERID"),
            (("CNI_NETNS", ""), "CNI_NETNS"),
            (("CNI_NETNS", "run/netns/a"), "CNI_NETNS"),
            (("CNI_IFNAME", ""), "CNI_IFNAME"),
            (("CNI_IFNAME", "sixteen--letters"), "CNI_IFNAME"),
            (("CNI_ARGS", "MAC"), "CNI_ARGS"),
            (("CNI_ARGS", "COLOUR=red"), "COLOUR"),
        ] {
            let error = parse(&[change]).unwrap_err();
            assert_eq!(error.code(), ErrorCode::INVALID_PARAMETERS, "{change:?}");
            assert!(error.to_string().contains(named), "{change:?}: {error}");
        }
    }

    #[test]
    fn a_del_needs_neither_a_namespace_nor_sound_arguments() {
        for changes in [
            [("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")],
            [("CNI_COMMAND", "DEL"), ("CNI_NETNS", "odd")],
            [("CNI_COMMAND", "DEL"), ("CNI_ARGS", "nonsense")],
        ] {
            assert_eq!(parse(&changes).unwrap().verb, Verb::Del);
        }
    }

    #[test]
    fn verbs_without_a_container_need_only_their_name() {
        for verb in [Verb::Gc, Verb::Status, Verb::Version] {
            let environment =
                Environment::parse(|name| (name == "CNI_COMMAND").then(|| verb.as_str().to_owned())).unwrap();
            assert_eq!((environment.verb, environment.container), (verb, None));
        }
    }
}
