//! Keys, certificates and kubeconfigs of a cluster.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::Result;

/// The name of the cluster in its kubeconfigs.
const CLUSTER: &str = "cluster";
/// How long certificates hold, in days.
const DAYS: &str = "365";

/// A directory of keys and certificates.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// The keys in `directory`, whether it is made yet or not.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Makes the authority and the key that signs service accounts' tokens.
    ///
    /// # Errors
    ///
    /// If openssl fails.
    pub fn create(directory: PathBuf) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&directory);
        made.map_err(|error| format!("{}: {error}", directory.display()))?;
        let pki = Self { directory };
        pki.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            DAYS,
            "-subj",
            "/CN=cluster",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ])?;
        pki.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "accounts.key"])?;
        pki.openssl(&["pkey", "-in", "accounts.key", "-pubout", "-out", "accounts.pub"])?;
        Ok(pki)
    }

    /// The path of a file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes `name.key` and `name.crt`, for a client or, with names (`DNS:…`, `IP:…`), for a server.
    ///
    /// # Errors
    ///
    /// If openssl fails.
    pub fn issue(&self, name: &str, subject: &str, names: &[String]) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let mut arguments = vec![
            "req",
            "-x509",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            DAYS,
            "-subj",
            subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-addext",
            "extendedKeyUsage=serverAuth,clientAuth",
        ];
        let names = format!("subjectAltName={}", names.join(","));
        if !names.ends_with('=') {
            arguments.extend(["-addext", &names]);
        }
        self.openssl(&arguments)
    }

    /// Makes `name.kubeconfig` for the client `subject`; what it needs is in it.
    ///
    /// # Errors
    ///
    /// If openssl fails or the file cannot be written.
    pub fn kubeconfig(&self, name: &str, subject: &str, server: &str) -> Result<PathBuf> {
        self.issue(name, subject, &[])?;
        self.write_kubeconfig(&format!("{name}.kubeconfig"), name, server)
    }

    /// Writes a kubeconfig with the key and certificate `name`, which exist.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub fn write_kubeconfig(&self, file: &str, name: &str, server: &str) -> Result<PathBuf> {
        let encoded = |file: &str| -> Result<String> {
            let path = self.file(file);
            Ok(base64(&std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?))
        };
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CLUSTER,
            "clusters": [{ "name": CLUSTER, "cluster": {
                "server": server, "certificate-authority-data": encoded("ca.crt")?,
            } }],
            "users": [{ "name": name, "user": {
                "client-certificate-data": encoded(&format!("{name}.crt"))?,
                "client-key-data": encoded(&format!("{name}.key"))?,
            } }],
            "contexts": [{ "name": CLUSTER, "context": { "cluster": CLUSTER, "user": name } }],
        });
        let path = self.file(file);
        crate::programs::write_atomically(&path, config.to_string().as_bytes())?;
        Ok(path)
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(&self.directory).stdin(Stdio::null());
        super::keeper::text(&format!("openssl {}", arguments.join(" ")), command.output()).map(drop)
    }
}

/// Base64 of RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = group >> (18 - 6 * place) & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[digit as usize]) } else { '=' });
        }
    }
    text
}

/// A certificate's names for these DNS names and addresses.
pub fn names(dns: &[&str], addresses: &[String]) -> Vec<String> {
    let dns = dns.iter().map(|name| format!("DNS:{name}"));
    dns.chain(addresses.iter().map(|address| format!("IP:{address}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648 section 10.
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, encoded) in rows {
            assert_eq!(base64(plain.as_bytes()), encoded, "{plain}");
        }
    }
}
