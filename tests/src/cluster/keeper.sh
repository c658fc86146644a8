# Keeps one cluster: makes the namespaces that all of it lives in, and when they end removes what it left.
# Arguments: the cluster's directory; "pipe" (ends when its input ends) or "forever"; how its control groups' names begin.
set -u
directory=$1 mode=$2 groups=$3
exec 3<&0 </dev/null

unshare --fork --kill-child --pid --mount --net --uts --ipc --propagation private sh -s "$directory" "$mode" <<'INSIDE'
    # Process 1 of the cluster: when it ends, the kernel ends everything that was started here, whoever started it.
    # The /proc is still the machine's, so these are numbers that the machine knows.
    ip link set lo up
    read -r line </proc/self/stat
    printf '%s\n' "$line" >"$1/keeper.partial"
    mv "$1/keeper.partial" "$1/keeper"
    if [ "$2" = pipe ]; then cat <&3 >/dev/null & else sleep infinity & fi
    # A shell that waits also reaps what others leave to it.
    wait $!
INSIDE

exec 3<&-
find /sys/fs/cgroup -depth -type d -path "*/$groups-*" -exec rmdir {} + 2>/dev/null
rm -rf "$directory"
