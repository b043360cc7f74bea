#!/usr/bin/env bash
# Step 60: make network managers ignore the links of tasks and containers. A manager that uses DHCP
# on them, or removes unknown addresses, disconnects tasks.
#
# This step does not change the configuration of the host's own network cards.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/systemd/network" "$root/etc/NetworkManager/conf.d"

# systemd-networkd: the first file that matches a link is used.
cat >"$root/etc/systemd/network/05-ecs-unmanaged.network" <<'CONF'
[Match]
Name=ecs* veth* docker* br-*

[Link]
Unmanaged=yes
CONF

# udev: a link that is created with an address keeps it.
cat >"$root/etc/systemd/network/05-ecs-unmanaged.link" <<'CONF'
[Match]
OriginalName=ecs* veth* docker* br-*

[Link]
NamePolicy=keep
MACAddressPolicy=none
CONF

cat >"$root/etc/NetworkManager/conf.d/60-ecs-unmanaged.conf" <<'CONF'
[keyfile]
unmanaged-devices=interface-name:ecs*;interface-name:veth*;interface-name:docker*;interface-name:br-*
CONF
