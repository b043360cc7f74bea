#!/usr/bin/env bash
# Step 55: limits of the kernel that a host of many containers meets first.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/sysctl.d" "$root/etc/modules-load.d"

cat >"$root/etc/modules-load.d/60-ecs-host.conf" <<'CONF'
# Loaded before sysctl.d is read, so that the limit of connections can be set.
nf_conntrack
# The engine's storage driver, where a container may not load it.
overlay
CONF

cat >"$root/etc/sysctl.d/60-ecs-host.conf" <<'CONF'
# Each container with a file watcher takes an instance; the kernel gives one user 128.
fs.inotify.max_user_instances = 8192
fs.inotify.max_user_watches = 524288

# Every task is a neighbour of the bridge, and the table is shared by all of the host's networks.
net.ipv4.neigh.default.gc_thresh1 = 1024
net.ipv4.neigh.default.gc_thresh2 = 4096
net.ipv4.neigh.default.gc_thresh3 = 8192
net.ipv6.neigh.default.gc_thresh1 = 1024
net.ipv6.neigh.default.gc_thresh2 = 4096
net.ipv6.neigh.default.gc_thresh3 = 8192

# Connections of all tasks pass one table; a full one drops packets. A missing entry is not an error:
# a kernel may have it built in another way.
-net.netfilter.nf_conntrack_max = 262144
CONF
