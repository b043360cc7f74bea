#!/usr/bin/env bash
# Step 60: network managers leave the links of tasks and containers to those who made them. One that
# asks DHCP on them, or takes away addresses it does not know, cuts tasks off.
#
# The host's own network cards are no concern of this step: they stay with whoever has them.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/systemd/network" "$root/etc/NetworkManager/conf.d"

# systemd-networkd: the first file that matches a link decides.
cat >"$root/etc/systemd/network/05-ecs-unmanaged.network" <<'CONF'
[Match]
Name=ecs* veth* docker* br-*

[Link]
Unmanaged=yes
CONF

# udev: a link that is made with an address keeps it.
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
