# Process 1 of a node: gives it a root directory of its own, then runs what a node runs until the power goes.
# Argument: the node's directory. Its file "settings" sets the variables used here. Runs in namespaces of its own, with
# the machine's files still in sight.
set -eu
directory=$1
. "$directory/settings"
root=$directory/root
read -r line </proc/self/stat

# --- root ---
mount --bind "$root" "$root"
cd "$root"
mkdir -p dev proc sys run tmp usr old opt/kubernetes opt/debian opt/plugins opt/cni/bin etc/kubernetes var/log var/lib
ln -sfn /run var/run
for name in bin sbin lib lib32 lib64; do
    if [ -L "/$name" ]; then cp -P "/$name" .
    elif [ -d "/$name" ]; then mkdir -p "$name" && mount --bind -o ro "/$name" "$name"; fi
done
mount --bind /usr usr && mount -o remount,bind,ro usr
for program in "$KUBELET" "$KUBE_PROXY" "$KUBECTL"; do
    file=opt/kubernetes/${program##*/}
    touch "$file" && mount --bind "$program" "$file" && mount -o remount,bind,ro "$file"
done
mount --bind "$DEBIAN" opt/debian && mount -o remount,bind,ro opt/debian
mount --bind "$PLUGINS" opt/plugins && mount -o remount,bind,ro opt/plugins
for name in alternatives group ld.so.cache nsswitch.conf passwd protocols services; do
    if [ -e "/etc/$name" ] && [ ! -e "etc/$name" ]; then cp -a "/etc/$name" etc/; fi
done
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir run/lock run/netns
mount --rbind /dev dev
mount -t sysfs sys sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
if [ -e sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "sys/fs/cgroup$GROUP"
    for name in $(cat sys/fs/cgroup/cgroup.controllers); do
        echo "+$name" >sys/fs/cgroup/cgroup.subtree_control || :
        echo "+$name" >"sys/fs/cgroup$GROUP/cgroup.subtree_control" || :
    done
else
    for hierarchy in sys/fs/cgroup/*/; do mkdir -p "$hierarchy$GROUP"; done
fi
mount -t proc proc proc
# What kubelet sets is the machine's: it gets files instead.
for name in kernel/panic kernel/panic_on_oops kernel/keys/root_maxbytes kernel/keys/root_maxkeys vm/overcommit_memory \
    vm/panic_on_oom; do
    if [ -e "proc/sys/$name" ]; then
        file=run/sysctl-$(echo "$name" | tr / -)
        cat "proc/sys/$name" >"$file"
        mount --bind "$file" "proc/sys/$name"
    fi
done
cat proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
pivot_root . old
cd /
hostname "$NODE"
umount -l old
rmdir old
mount --make-rshared /

# --- network ---
ip link set lo up
sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.accept_dad=0
printf '%s\n' "$line" >/.process.partial
mv /.process.partial /.process
until [ -e /sys/class/net/eth0 ]; do sleep 0.02; done
for address in $ADDRESSES; do
    case $address in *:*) ip address add "$address" dev eth0 nodad ;; *) ip address add "$address" dev eth0 ;; esac
done
ip link set eth0 up
for gateway in $GATEWAYS; do ip route add default via "$gateway" dev eth0; done
nft -f - <<RULES
table ip primary {
    chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr $PODS ip daddr != $ALL_PODS masquerade
    }
}
RULES

# --- processes ---
export PATH=/opt/debian/usr/bin:/opt/debian/usr/sbin:/opt/debian/bin:/opt/kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
# What this machine says of itself is not so here.
unset TMPDIR XDG_CACHE_HOME XDG_RUNTIME_DIR
mkdir -p /root
cp -u /opt/plugins/* /opt/cni/bin/
keep() { # name, command...: what ends is started again
    name=$1
    shift
    while :; do
        "$@" >>"/var/log/$name.log" 2>&1 || :
        echo "$name ended" >>"/var/log/$name.log"
        sleep 1
    done
}
keep containerd containerd --config /etc/containerd/config.toml &
run_kubelet() {
    # There is no registry: pods come when the node has its images.
    until [ -e /var/lib/images ]; do sleep 0.1; done
    kubelet --hostname-override="$NODE" --node-ip="$(cat /etc/kubernetes/node-ip)" \
        --config=/etc/kubernetes/kubelet.json --kubeconfig=/etc/kubernetes/kubelet.kubeconfig --v=1
}
keep kubelet run_kubelet &
keep kube-proxy kube-proxy --config=/etc/kubernetes/kube-proxy.json &
# A shell that waits also reaps what others leave to it.
wait
