//! The daemons' HTTP endpoints, asked from inside a host.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::host::Host;
use crate::inside;

/// Status code and body of `GET path` at `address`, asked on the host.
///
/// # Panics
///
/// If nobody answers, or not in HTTP.
pub fn get(host: &Host, address: &str, path: &str) -> (u16, String) {
    get_in(&host.open(), address, path)
}

/// As [`get`], asked in this network namespace.
///
/// # Panics
///
/// As [`get`].
pub fn get_in(namespace: &File, address: &str, path: &str) -> (u16, String) {
    try_get(namespace, address, path).unwrap_or_else(|error| panic!("http://{address}{path}: {error}"))
}

/// As [`get_in`], where nobody may answer.
///
/// # Errors
///
/// If nobody answers, or not in HTTP.
pub fn try_get(namespace: &File, address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let answer = inside::run(namespace, || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })?;
    let wrong = || std::io::Error::other(format!("no HTTP: {answer}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(wrong)?, body.to_owned()))
}
