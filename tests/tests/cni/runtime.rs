//! What a runtime does: executes the plugin with an environment and a configuration, and reads what it prints.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::fabric::Fabric;
use tests::host::{Host, overlay_of};
use tests::overlay::Worker;
use tests::programs;

/// All versions of the specification that are spoken.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Where Debian's plugins are.
pub const DEBIAN_PLUGINS: &str = "/usr/lib/cni";

/// Whether a version has a verb.
pub fn has(version: &str, verb: &str) -> bool {
    match verb {
        "CHECK" => version != "0.3.1",
        "GC" | "STATUS" => version == "1.1.0",
        _ => true,
    }
}

/// How an execution ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status was 0.
    pub success: bool,
    /// The object on standard output; `Null` where there was none.
    pub object: Value,
    /// What stood on standard error.
    pub stderr: String,
}

impl Outcome {
    /// The result of a verb that has to succeed.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.success, "{}; {}", self.object, self.stderr);
        self.object
    }

    /// The code of an error whose texts have to name these things; its shape is the specification's.
    #[track_caller]
    pub fn error(self, named: &[&str]) -> u64 {
        let object = &self.object;
        assert!(!self.success, "it succeeded with {object}");
        let keys: Vec<_> = object.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"], "{object}");
        let text = format!("{} {}", object["msg"].as_str().unwrap_or(""), object["details"].as_str().unwrap_or(""));
        for named in named {
            assert!(text.contains(named), "{named} is not in {text}");
        }
        assert!(!object["msg"].as_str().unwrap_or("").is_empty());
        object["code"].as_u64().unwrap_or_else(|| panic!("no code in {object}"))
    }
}

/// One execution to be.
#[derive(Clone, Debug)]
pub struct Call {
    /// The environment.
    pub variables: BTreeMap<String, String>,
    /// The configuration.
    pub config: Value,
}

impl Call {
    /// A verb for the interface `interface` of a pod.
    pub fn new(verb: &str, pod: &Host, interface: &str, config: Value) -> Self {
        let variables = [
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", pod.name().to_owned()),
            ("CNI_NETNS", format!("/run/netns/{}", pod.name())),
            ("CNI_IFNAME", interface.to_owned()),
            ("CNI_PATH", DEBIAN_PLUGINS.to_owned()),
        ];
        Self { variables: variables.map(|(name, value)| (name.to_owned(), value)).into(), config }
    }

    /// With a variable set otherwise.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With another verb.
    pub fn verb(self, verb: &str) -> Self {
        self.with("CNI_COMMAND", verb)
    }

    /// With a key of the configuration set otherwise.
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }
}

/// A node with a worker whose reflector is up, and a runtime.
pub struct Node {
    pub fabric: Fabric,
}

impl Node {
    /// A node alone with a reflector.
    pub fn new() -> Self {
        Self::of(1)
    }

    /// The first of several nodes.
    pub fn of(workers: usize) -> Self {
        Self { fabric: Fabric::new(workers) }
    }

    pub fn worker(&self) -> &Worker {
        &self.fabric.workers[0]
    }

    pub fn worker_mut(&mut self) -> &mut Worker {
        &mut self.fabric.workers[0]
    }

    /// Executes the plugin on the first node.
    pub fn run(&self, call: &Call) -> Outcome {
        self.run_on(0, call)
    }

    /// Executes the plugin on a node.
    pub fn run_on(&self, node: usize, call: &Call) -> Outcome {
        let child = self.start(node, call, &call.config.to_string());
        finish(child)
    }

    /// Executes the plugin with any input.
    pub fn run_with(&self, call: &Call, input: &str) -> Outcome {
        finish(self.start(0, call, input))
    }

    /// Starts the plugin; it has its input.
    pub fn start(&self, node: usize, call: &Call, input: &str) -> Child {
        let mut command = self.command(node, programs::path("megalos-cni"));
        command.envs(&call.variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("megalos-cni: {error}"));
        // A plugin that refuses its environment does not read.
        let _ = child.stdin.take().unwrap_or_else(|| panic!("no stdin")).write_all(input.as_bytes());
        child
    }

    /// A command on a node whose environment leads plugins to the node's worker.
    pub fn command(&self, node: usize, program: PathBuf) -> Command {
        let worker = &self.fabric.workers[node];
        let mut command = worker.host.command(program);
        command.env("MEGALOS_CNI_SOCKET", worker.cni_socket());
        command.env("MEGALOS_OVERLAY_NAMESPACE", overlay_of(worker.host.name()));
        command
    }

    /// The names of the worker's ends of all attachments.
    pub fn ports(&self) -> Vec<String> {
        let links = self.worker().overlay_sh("ip -brief link show type veth");
        let names = links.lines().filter_map(|line| line.split(['@', ' ']).next());
        names.map(str::to_owned).collect()
    }
}

/// Waits for the plugin and reads what it printed.
pub fn finish(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("megalos-cni: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let object = if stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    };
    Outcome { success: output.status.success(), object, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// A configuration as short as it may be.
pub fn config(version: &str, vni: u32) -> Value {
    json!({ "cniVersion": version, "name": "blue", "type": "megalos", "vni": vni })
}
