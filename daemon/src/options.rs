//! Flags that both daemons have, and how a daemon takes its settings: at start and again on SIGHUP.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};
use ipnet::IpNet;

use crate::config::ConfigError;
use crate::run::{LogFormat, fail, fail_usage, parse_args, start_logging};

/// Flags that both daemons have.
#[derive(Args, Clone, Debug)]
pub struct CommonOptions {
    /// TOML configuration file; docs/configuration.md describes its keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Our AS number [default: 65000]
    #[arg(long, value_name = "N")]
    pub asn: Option<u32>,
    /// Serve /metrics, /healthz and /readyz here
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_socket)]
    pub http: Option<SocketAddr>,
    /// Answer `megalos show` on this Unix socket
    #[arg(long, value_name = "SOCKET")]
    pub control: Option<PathBuf>,
    /// Form of log lines
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Reads an address with its port.
///
/// # Errors
///
/// What an address with its port looks like.
pub fn parse_socket(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an address and a port such as 192.0.2.1:179 or [2001:db8::1]:179")
}

/// Reads a prefix.
///
/// # Errors
///
/// What a prefix looks like.
pub fn parse_prefix(text: &str) -> Result<IpNet, &'static str> {
    text.parse().map_err(|_| "expected a prefix such as 192.0.2.0/24, 192.0.2.1/32 or 2001:db8::/32")
}

/// The settings of a daemon: flags merged with the file that they name.
pub trait Settings: Sized {
    /// The command line.
    type Options: Parser + AsRef<CommonOptions>;

    /// Reads and checks the whole.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    fn load(options: &Self::Options) -> Result<Self, ConfigError>;

    /// What differs from `newer` and takes a restart to change.
    fn fixed_differences(&self, newer: &Self) -> Vec<&'static str>;

    /// Starts the program `name` with these arguments, its own name left out: command line, logging, settings. The exit code
    /// where there is nothing to run; what is wrong has been said then.
    fn start(name: &str, args: Vec<OsString>) -> Result<(Self::Options, Self), ExitCode> {
        let options: Self::Options = parse_args(name, args)?;
        start_logging(options.as_ref().log_format);
        match Self::load(&options) {
            Ok(settings) => Ok((options, settings)),
            Err(error @ ConfigError::Incomplete(_)) if options.as_ref().config.is_none() => {
                Err(fail_usage(name, &error))
            }
            Err(error) => Err(fail(name, &error)),
        }
    }

    /// Reads the file again; says why where that is not possible, and which changes wait for a restart.
    fn reload(&self, options: &Self::Options) -> Option<Self> {
        let newer = match Self::load(options) {
            Ok(newer) => newer,
            Err(error) => {
                tracing::error!(%error, "configuration not reloaded; what runs stays as it is");
                return None;
            }
        };
        let fixed = self.fixed_differences(&newer);
        if !fixed.is_empty() {
            tracing::warn!(keys = ?fixed, "these keys take a restart to change and keep their old values");
        }
        Some(newer)
    }
}
