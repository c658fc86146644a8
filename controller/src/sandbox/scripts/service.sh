#!/bin/sh
# Stand-in for systemctl, service and missing init scripts in a Megalos device.
# megalos-stand-in: a file holding this line is no real init script.
#
# A device has no service manager. What labs ask of one is carried out by the
# scripts in /etc/init.d.

INIT_DIR=/etc/init.d
MARK='^# megalos-stand-in:'
me=${0##*/}

say() {
    printf '%s\n' "megalos: device $(cat /proc/sys/kernel/hostname): $*" >&2
}

is_real() {
    [ -f "$INIT_DIR/$1" ] && ! grep -q "$MARK" "$INIT_DIR/$1" 2>/dev/null
}

# Names that mean the same service, the one asked for first.
same_service() {
    case $1 in
    bind | bind9 | named) echo "$1 named bind9 bind" ;;
    apache | apache2 | httpd) echo "$1 apache2 httpd" ;;
    ssh | sshd) echo "$1 ssh sshd" ;;
    dhcpd | isc-dhcp-server) echo "$1 isc-dhcp-server dhcpd" ;;
    openvswitch | openvswitch-switch | ovs) echo "$1 openvswitch-switch openvswitch" ;;
    smb | smbd | samba) echo "$1 smbd samba" ;;
    mysql | mysqld | mariadb) echo "$1 mariadb mysql" ;;
    *) echo "$1" ;;
    esac
}

package_of() {
    case $1 in
    bind | bind9 | named) echo bind9 ;;
    apache | apache2 | httpd) echo apache2 ;;
    ssh | sshd) echo openssh-server ;;
    dhcpd | isc-dhcp-server) echo isc-dhcp-server ;;
    openvswitch | openvswitch-switch | ovs) echo openvswitch-switch ;;
    smb | smbd | samba) echo samba ;;
    mysql | mysqld | mariadb) echo mariadb-server ;;
    bird6) echo bird ;;
    networking) echo ifupdown ;;
    strongswan | ipsec | strongswan-starter) echo strongswan ;;
    *) echo "$1" ;;
    esac
}

# Sets $script, or explains and leaves with 5.
find_script() {
    asked=${1%.service}
    case $asked in
    '' | */* | .*)
        say "\"$1\" is not the name of a service"
        exit 4
        ;;
    esac
    for name in $(same_service "$asked"); do
        if is_real "$name"; then
            script=$INIT_DIR/$name
            return
        fi
    done
    case $asked in
    quagga | zebra)
        say "service \"$asked\": Quagga labs do not run here, since Quagga is no longer" \
            "packaged; move the lab's /etc/quagga to /etc/frr and start \"frr\""
        exit 5
        ;;
    esac
    for dir in /etc/systemd/system /lib/systemd/system /usr/lib/systemd/system; do
        if [ -f "$dir/$asked.service" ]; then
            say "service \"$asked\" is installed but has no script in $INIT_DIR, and there" \
                "is no systemd here; start its daemon by its own command:" \
                "$(sed -n 's/^ExecStart=-\{0,1\}//p' "$dir/$asked.service" | head -n 1)"
            exit 5
        fi
    done
    say "service \"$asked\" is not installed on the host; devices use the host's programs:" \
        "install it there (Debian: apt install $(package_of "$asked"))"
    exit 5
}

# What a daemon's package or systemd would have made before the first start.
prepare() {
    case $script in
    */ssh | */sshd)
        mkdir -p /run/sshd
        for key in /etc/ssh/ssh_host_*_key; do
            [ -e "$key" ] || ssh-keygen -A >/dev/null
            break
        done
        ;;
    esac
}

# Says what the script of a service that does not start keeps to itself.
explain() {
    case $script in
    */named | */bind9) named-checkconf 2>&1 | head -n 4 >&2 ;;
    esac
}

run_script() {
    case $1 in start | restart | reload | force-reload) prepare ;; esac
    # A clean environment, as a service manager would give.
    (cd / && exec env -i LANG="${LANG:-C}" PATH="$PATH" TERM="${TERM:-dumb}" HOME=/root \
        "$script" "$1")
    outcome=$?
    case $1 in start | restart) [ $outcome = 0 ] || explain ;; esac
    return $outcome
}

is_active() {
    run_script status >/dev/null 2>&1
}

list_scripts() {
    for path in "$INIT_DIR"/*; do
        if is_real "${path##*/}"; then printf '%s\n' "${path##*/}"; fi
    done
}

systemctl_one() {
    find_script "$2"
    case $1 in
    start | stop | restart | reload | force-reload) run_script "$1" ;;
    try-restart | condrestart) ! is_active || run_script restart ;;
    reload-or-restart) run_script reload || run_script restart ;;
    status | show) run_script status ;;
    is-active)
        is_active && echo active && return 0
        echo inactive
        return 3
        ;;
    is-failed)
        if is_active; then echo active; else echo inactive; fi
        return 1
        ;;
    is-enabled) echo enabled ;;
    enable | reenable | unmask) [ -z "$now" ] || run_script start ;;
    disable | mask) [ -z "$now" ] || run_script stop ;;
    esac
}

systemctl_main() {
    now=
    verb=
    units=
    while [ $# -gt 0 ]; do
        case $1 in
        --now) now=yes ;;
        -H | -M | -p | -t | -n | -o | --property | --type | --state | --lines | --output)
            [ $# -lt 2 ] || shift
            ;;
        -*) ;;
        *) if [ -z "$verb" ]; then verb=$1; else units="$units $1"; fi ;;
        esac
        shift
    done
    case $verb in
    daemon-reload | daemon-reexec | reset-failed | preset | preset-all | set-default) return 0 ;;
    '' | list-units | list-unit-files)
        list_scripts
        return 0
        ;;
    is-system-running)
        echo running
        return 0
        ;;
    start | stop | restart | reload | force-reload | try-restart | condrestart | \
        reload-or-restart | status | show | is-active | is-failed | is-enabled | enable | \
        reenable | unmask | disable | mask) ;;
    *)
        say "systemctl $verb is not possible: a device has no systemd; possible are start, stop," \
            "restart, reload, status, is-active, enable and disable"
        return 1
        ;;
    esac
    if [ -z "$units" ]; then
        if [ "$verb" = status ]; then
            list_scripts
            return 0
        fi
        say "systemctl $verb: which service?"
        return 1
    fi
    result=0
    set -f
    for unit in $units; do
        # In a subshell, so that one missing service does not stop the others.
        (systemctl_one "$verb" "$unit") || result=$?
    done
    return $result
}

service_main() {
    case $1 in
    '' | -h | --help)
        echo "usage: service NAME start|stop|restart|reload|status; service --status-all"
        return 0
        ;;
    --status-all)
        for name in $(list_scripts); do
            script=$INIT_DIR/$name
            if is_active; then echo " [ + ]  $name"; else echo " [ - ]  $name"; fi
        done
        return 0
        ;;
    esac
    find_script "$1"
    if [ -z "$2" ]; then
        say "service $1: what shall it do? start, stop, restart, reload or status"
        return 1
    fi
    run_script "$2"
}

case $me in
systemctl) systemctl_main "$@" ;;
service) service_main "$@" ;;
reboot | halt | poweroff | shutdown | init | telinit)
    say "$me is not possible inside a device; stop and start the lab from the host"
    exit 1
    ;;
*)
    # Called as /etc/init.d/NAME of a service that the host does not have.
    find_script "$me"
    run_script "$1"
    ;;
esac
