#!/usr/bin/env bash
# Step 55: raise the kernel limits that a host with many containers reaches first.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/sysctl.d" "$root/etc/modules-load.d"

cat >"$root/etc/modules-load.d/60-ecs-host.conf" <<'CONF'
# Loaded before sysctl.d is read, so that the connection limit can be set.
nf_conntrack
# The engine's storage driver, in case a container may not load it.
overlay
CONF

cat >"$root/etc/sysctl.d/60-ecs-host.conf" <<'CONF'
# Each container with a file watcher needs an instance; the kernel's default is 128 per user.
fs.inotify.max_user_instances = 8192
fs.inotify.max_user_watches = 524288

# Every task is a neighbour of the bridge, and all networks of the host share one table.
net.ipv4.neigh.default.gc_thresh1 = 1024
net.ipv4.neigh.default.gc_thresh2 = 4096
net.ipv4.neigh.default.gc_thresh3 = 8192
net.ipv6.neigh.default.gc_thresh1 = 1024
net.ipv6.neigh.default.gc_thresh2 = 4096
net.ipv6.neigh.default.gc_thresh3 = 8192

# The connections of all tasks share one table; if it is full, packets are dropped. A missing entry
# is not an error: some kernels do not have it.
-net.netfilter.nf_conntrack_max = 262144
CONF
