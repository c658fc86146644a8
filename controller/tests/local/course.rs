//! A lab's course without LANs: up, commands, crashes, down.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Outcome, TestLab, User, crash, for_both_users, is_alive, is_running, wait_until};

for_both_users!(
    a_lab_comes_up_runs_commands_and_goes_without_a_trace,
    a_command_has_the_users_streams_and_its_exit_code_comes_back,
    a_command_ends_with_its_user,
    a_connected_shell_has_a_terminal,
    a_killed_supervisor_takes_everything_with_it_and_is_cleaned,
    an_interrupted_start_leaves_nothing,
    several_labs_are_up_at_once,
    a_failing_script_is_named_and_the_lab_comes_up,
    shutdown_scripts_run_and_may_not_last_for_ever,
    a_program_that_is_missing_is_named_with_its_package,
    a_line_that_needs_what_the_kernel_lacks_is_named,
    a_lab_that_could_flood_the_machine_starts_only_by_force,
);

const PAIR: &[(&str, &str)] = &[("lab.conf", "pc1[image]=\"kathara/base\"\npc2[image]=\"kathara/base\"\n")];

fn a_lab_comes_up_runs_commands_and_goes_without_a_trace(user: User) {
    let lab = TestLab::new("course", user, PAIR);
    let up = lab.ok(&["up"]);
    assert!(up.stdout.starts_with("lab is up: 2 devices"), "{up:?}");
    assert!(up.stderr.contains("images are not used here"), "{up:?}");
    let supervisor = lab.supervisor();
    assert_eq!(lab.ok(&["exec", "pc1", "--", "cat", "/proc/sys/kernel/hostname"]).stdout, "pc1\n");

    let status = lab.ok(&["status", "--json"]).json();
    assert_eq!(status["phase"], "up");
    assert_eq!(status["devices"][1]["name"], "pc2");
    assert_eq!(status["devices"][1]["state"], "running");
    assert!(lab.ok(&["status"]).stdout.contains("pc2"));

    let again = lab.run(&["up"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("already up"), "{again:?}");
    assert!(is_alive(supervisor), "the second start has not harmed the first");

    assert_eq!(lab.ok(&["down"]).stdout, "lab is down\n");
    assert!(!is_alive(supervisor));
    assert!(lab.left_behind().is_empty(), "{:?}", lab.left_behind());
    let status = lab.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stderr.contains("no lab is up"), "{status:?}");
    lab.ok(&["up"]);
}

fn a_command_has_the_users_streams_and_its_exit_code_comes_back(user: User) {
    let lab = TestLab::new("exec", user, PAIR);
    lab.ok(&["up"]);
    let mut child = lab
        .command(&["exec", "pc1", "--", "sh", "-c", "cat; echo loud >&2; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (7, "through\n", "loud\n"));

    assert_eq!(lab.run(&["exec", "pc1", "--", "sh", "-c", "kill -TERM $$"]).code, 128 + 15);
    let missing = lab.run(&["exec", "pc1", "nosuchprogram"]);
    assert_eq!(missing.code, 127);
    assert!(missing.stderr.contains("device pc1: cannot run nosuchprogram"), "{missing:?}");
    let stranger = lab.run(&["exec", "pc9", "true"]);
    assert_eq!(stranger.code, 2);
    assert!(stranger.stderr.contains("it has pc1, pc2"), "{stranger:?}");
}

fn a_command_ends_with_its_user(user: User) {
    let lab = TestLab::new("hangup", user, PAIR);
    lab.ok(&["up"]);
    let (first, second) = (format!("300.{}1", std::process::id()), format!("300.{}2", std::process::id()));
    let mut child = lab.spawn(&["exec", "pc1", "--", "sleep", &first]);
    wait_until("the command runs", || lab.run(&["exec", "pc1", "pgrep", "-f", &first]).code == 0);
    kill(child.id(), nix::sys::signal::Signal::SIGKILL);
    child.wait().unwrap();
    wait_until("the command has ended", || lab.run(&["exec", "pc1", "pgrep", "-x", "sleep"]).code == 1);

    let mut child = lab.spawn(&["exec", "pc1", "--", "sleep", &second]);
    wait_until("the command runs", || lab.run(&["exec", "pc1", "pgrep", "-x", "sleep"]).code == 0);
    kill(child.id(), nix::sys::signal::Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 2), "Ctrl-C reaches the command");
}

fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

fn a_connected_shell_has_a_terminal(user: User) {
    let lab = TestLab::new("connect", user, PAIR);
    lab.ok(&["up"]);
    let mut child = lab.command(&["connect", "pc2"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"tty; echo name=$(cat /proc/sys/kernel/hostname); exit 5\n").unwrap();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!(outcome.code, 5, "{outcome:?}");
    assert!(outcome.stdout.contains("/dev/pts/"), "{outcome:?}");
    assert!(outcome.stdout.contains("name=pc2"), "{outcome:?}");
}

fn a_killed_supervisor_takes_everything_with_it_and_is_cleaned(user: User) {
    let mark = format!("400.{}", std::process::id());
    let lab = TestLab::new("crash", user, PAIR);
    lab.write("pc1.startup", &format!("sleep {mark} &\n"));
    lab.ok(&["up"]);
    wait_until("the script's job runs", || is_running(&mark));
    crash(&lab);
    assert!(!is_running(&mark), "the devices' processes are gone with it");

    let status = lab.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stderr.contains("not up any more"), "{status:?}");
    assert!(lab.left_behind().is_empty());

    lab.ok(&["up"]);
    crash(&lab);
    assert!(!is_running(&mark), "the devices' processes are gone with it");
    let down = lab.ok(&["down"]);
    assert!(down.stdout.contains("cleaned"), "{down:?}");
    assert!(lab.left_behind().is_empty());

    lab.ok(&["up"]);
    crash(&lab);
    assert!(!is_running(&mark), "the devices' processes are gone with it");
    lab.ok(&["up"]);
}

fn an_interrupted_start_leaves_nothing(user: User) {
    let mark = format!("500.{}", std::process::id());
    let lab = TestLab::new("interrupt", user, PAIR);
    lab.write("pc2.startup", &format!("sleep {mark}\n"));
    for (signal, code) in [(nix::sys::signal::Signal::SIGINT, Some(130)), (nix::sys::signal::Signal::SIGKILL, None)] {
        let mut child = lab.spawn(&["up"]);
        wait_until("the script blocks", || is_running(&mark));
        assert_eq!(lab.run(&["exec", "pc1", "true"]).code, 0, "a starting lab can be looked into");
        kill(child.id(), signal);
        assert_eq!(child.wait().unwrap().code(), code);
        wait_until("everything is gone", || !is_running(&mark) && lab.left_behind().is_empty());
    }
}

fn several_labs_are_up_at_once(user: User) {
    let lab = TestLab::new("several", user, PAIR);
    let other = lab.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("lab.conf"), "LAB_NAME=\"second\"\nr1[image]=\"x\"\n").unwrap();
    let other = other.to_str().unwrap();
    lab.ok(&["up"]);
    lab.ok(&["up", other]);
    assert_eq!(lab.ok(&["exec", "pc1", "true"]).code, 0, "the current directory's lab is meant");
    let elsewhere = Outcome::of(lab.command(&["status"]).current_dir("/").output().unwrap());
    assert_eq!(elsewhere.code, 2);
    assert!(elsewhere.stderr.contains("up: lab, second"), "{elsewhere:?}");
    lab.ok(&["exec", "--lab", "second", "r1", "true"]);
    lab.ok(&["exec", "-d", other, "r1", "true"]);
    assert_eq!(lab.ok(&["down", "--lab", "second"]).stdout, "second is down\n");
    lab.ok(&["exec", "pc1", "true"]);
}

fn a_failing_script_is_named_and_the_lab_comes_up(user: User) {
    let lab = TestLab::new("failing", user, PAIR);
    lab.write("pc2.startup", "echo fine\nnosuchcommand here\n");
    let up = lab.ok(&["up"]);
    assert!(up.stderr.contains("pc2.startup failed (exit code 127)"), "{up:?}");
    assert!(up.stderr.contains("line 2: nosuchcommand here"), "{up:?}");
    assert!(up.stderr.contains("command not found"), "{up:?}");
    let status = lab.ok(&["status", "--json"]).json();
    assert!(status["devices"][1]["failures"][0].as_str().unwrap().contains("nosuchcommand"));
}

fn shutdown_scripts_run_and_may_not_last_for_ever(user: User) {
    let lab = TestLab::new("shutdown", user, PAIR);
    fs::create_dir(lab.path().join("shared")).unwrap();
    if user == User::Nobody {
        std::os::unix::fs::chown(lab.path().join("shared"), Some(65_534), Some(65_534)).unwrap();
    }
    lab.write("pc1.shutdown", "echo own > /shared/order\n");
    lab.write(
        "shared.shutdown",
        "[ $(cat /proc/sys/kernel/hostname) = pc1 ] || sleep 1000\necho shared >> /shared/order\n",
    );
    lab.ok(&["up"]);
    let began = Instant::now();
    let down = lab.ok(&["down"]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(down.stderr.contains("pc2: shared.shutdown was broken off"), "{down:?}");
    let mut order = String::new();
    fs::File::open(lab.path().join("shared/order")).unwrap().read_to_string(&mut order).unwrap();
    assert!(order.contains("own\nshared\n"), "{order}");
}

#[test]
fn wrong_command_lines_end_with_2_and_wrong_labs_with_1() {
    let lab = TestLab::new("usage", User::Root, PAIR);
    for wrong in [
        &["up", "--place", "pc9=node1"][..],
        &["up", "--place", "pc1=node7"],
        &["up", "--place", "pc1"],
        &["up", "--nodes", "0"],
        &["up", "--nodes", "200"],
        &["up", "--wrong"],
        &["wrong"],
        &[],
    ] {
        let outcome = lab.run(wrong);
        assert_eq!(outcome.code, 2, "{wrong:?}: {outcome:?}");
        assert!(lab.left_behind().is_empty());
    }
    assert!(lab.run(&["up", "--place", "pc9=node1"]).stderr.contains("it has pc1, pc2"));
    assert!(lab.run(&["up", "--place", "pc1=node7"]).stderr.contains("node1, node2"));

    lab.write("lab.conf", "pc1[0\npc1[x y]=\n");
    let outcome = lab.run(&["up"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("lab.conf:1") && outcome.stderr.contains("lab.conf:2"), "{outcome:?}");
    assert_eq!(lab.run(&["up", "/nonexistent"]).code, 1);
    assert_eq!(lab.run(&["down"]).code, 1);
}

fn a_program_that_is_missing_is_named_with_its_package(user: User) {
    let lab = TestLab::new("missing", user, PAIR);
    lab.write("pc1.startup", "PATH=/nowhere\nifconfig eth0 10.0.0.1/24 up\n");
    let up = lab.ok(&["up"]);
    let expected =
        "line 2: ifconfig eth0 10.0.0.1/24 up (exit code 127): install it on the host (Debian: apt install net-tools)";
    assert!(up.stderr.contains(expected), "{up:?}");
}

fn a_line_that_needs_what_the_kernel_lacks_is_named(user: User) {
    let lab = TestLab::new("lacks", user, PAIR);
    lab.write("pc1.startup", "ip link add plain type bridge\nip link add odd type nosuchkind\n");
    let up = lab.ok(&["up"]);
    assert!(up.stderr.contains("pc1.startup:2 needs links of type nosuchkind, which this kernel lacks"), "{up:?}");
    assert!(!up.stderr.contains("pc1.startup:1 needs"), "bridges are there: {up:?}");
}

/// On a kernel with VLAN filtering the lab starts at once.
fn a_lab_that_could_flood_the_machine_starts_only_by_force(user: User) {
    let lab = TestLab::new("flood", user, PAIR);
    lab.write("pc2.startup", "ip link add br0 type bridge\nip link set br0 type bridge vlan_filtering 1\n");
    let up = lab.run(&["up"]);
    if up.code == 0 {
        assert!(!up.stderr.contains("this kernel lacks"), "{up:?}");
        let filtering = lab.ok(&["exec", "pc2", "--", "cat", "/sys/class/net/br0/bridge/vlan_filtering"]);
        assert_eq!(filtering.stdout, "1\n");
        return;
    }
    assert_eq!(up.code, 1);
    for part in ["pc2.startup:2 needs VLAN filtering", "CONFIG_BRIDGE_VLAN_FILTERING", "`--force` starts it"] {
        assert!(up.stderr.contains(part), "{part}: {up:?}");
    }
    assert!(lab.left_behind().is_empty(), "{:?}", lab.left_behind());
    let forced = lab.ok(&["up", "--force"]);
    assert!(forced.stderr.contains("pc2.startup:2 needs VLAN filtering"), "{forced:?}");
}
