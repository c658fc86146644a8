//! Entry point.

fn main() {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == controller::sandbox::INIT_SUBCOMMAND) {
        controller::sandbox::init_main();
    }
}
