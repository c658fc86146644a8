//! A lab as `lab.conf` text again.
//!
//! What is printed has one form only: metadata first, then each device's interfaces and options, all
//! values quoted. Reading it yields the same metadata, devices and LANs, the LANs perhaps in another order.

use std::fmt::{self, Write};

use super::line::MetadataKey;
use super::model::{Interface, Lab, Metadata};

impl Lab {
    /// The lab's `lab.conf` in its one printed form.
    pub fn to_conf(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = write_conf(self, &mut text);
        text
    }
}

fn write_conf(lab: &Lab, out: &mut String) -> fmt::Result {
    for key in MetadataKey::ALL {
        if let Some(value) = metadata_value(&lab.metadata, key) {
            writeln!(out, "{}=\"{value}\"", key.as_str())?;
        }
    }
    for device in &lab.devices {
        if !out.is_empty() {
            out.push('\n');
        }
        for interface in &device.interfaces {
            let value = show_interface(interface);
            writeln!(out, "{}[{}]=\"{value}\"", device.name, interface.number)?;
        }
        for (name, value) in device.options.entries() {
            writeln!(out, "{}[{name}]=\"{value}\"", device.name)?;
        }
    }
    Ok(())
}

fn show_interface(interface: &Interface) -> String {
    match interface.mac {
        Some(mac) => format!("{}/{mac}", interface.lan),
        None => interface.lan.clone(),
    }
}

fn metadata_value(metadata: &Metadata, key: MetadataKey) -> Option<&String> {
    match key {
        MetadataKey::Name => metadata.name.as_ref(),
        MetadataKey::Description => metadata.description.as_ref(),
        MetadataKey::Version => metadata.version.as_ref(),
        MetadataKey::Author => metadata.author.as_ref(),
        MetadataKey::Email => metadata.email.as_ref(),
        MetadataKey::Web => metadata.web.as_ref(),
    }
}
