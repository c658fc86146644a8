//! Devices on this machine's kernel: each check runs as real root and again as
//! an ordinary user in a user namespace.

/// Makes two tests of each check, and the one that the second runs inside.
macro_rules! as_root_and_as_user {
    ($($name:ident),* $(,)?) => {
        mod as_root {
            $(#[test] fn $name() { crate::support::as_root(module_path!(), stringify!($name), super::$name); })*
        }
        mod as_user {
            $(#[test] fn $name() { crate::support::as_user(module_path!(), stringify!($name)); })*
        }
        mod inside {
            $(#[test] #[ignore = "the test as_user runs it in a user namespace"]
            fn $name() { crate::support::check(super::$name()); })*
        }
    };
}

#[path = "sandbox/commands.rs"]
mod commands;
#[path = "sandbox/files.rs"]
mod files;
#[path = "sandbox/hostile.rs"]
mod hostile;
#[path = "sandbox/isolation.rs"]
mod isolation;
#[path = "sandbox/network.rs"]
mod network;
#[path = "sandbox/privileges.rs"]
mod privileges;
#[path = "sandbox/scripts.rs"]
mod scripts;
#[path = "sandbox/services.rs"]
mod services;
#[path = "sandbox/support.rs"]
mod support;
