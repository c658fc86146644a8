//! Devices on this machine's kernel: each check runs as real root and again as
//! an ordinary user in a user namespace.

#[path = "sandbox/support.rs"]
mod support;

use std::time::Duration;

use controller::sandbox::Device;
use support::{TestResult, output_of, shell, spec};

macro_rules! as_root_and_as_user {
    ($($name:ident),* $(,)?) => {
        mod as_root {
            $(#[test] fn $name() { crate::support::as_root(stringify!($name), crate::$name); })*
        }
        mod as_user {
            $(#[test] fn $name() { crate::support::as_user(stringify!($name)); })*
        }
        mod inside {
            $(#[test] #[ignore = "as_user runs it in a user namespace"]
            fn $name() { crate::support::unwrap(crate::$name()); })*
        }
    };
}

as_root_and_as_user!(a_device_has_its_own_name_and_processes,);

fn a_device_has_its_own_name_and_processes() -> TestResult {
    let one = Device::create(&spec("r1_a"))?;
    let two = Device::create(&spec("r2"))?;
    eprintln!("warnings: {:?}", one.warnings());
    let (status, output) = output_of(
        &one,
        &shell("hostname; cat /proc/sys/kernel/hostname; ps ax; mount; id; ls -la / /dev /etc/frr /run"),
    )?;
    eprintln!("{status} {output}");
    drop(two);
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}
