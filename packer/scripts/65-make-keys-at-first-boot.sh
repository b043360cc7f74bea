#!/usr/bin/env bash
# Step 65: a host made from the image gets SSH host keys of its own, with or without cloud-init. Where
# cloud-init runs, it makes them first and nothing is left to do here.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/systemd/system"
cat >"$root/etc/systemd/system/ecs-image-host-keys.service" <<'UNIT'
[Unit]
Description=Make SSH host keys where there are none
After=cloud-init.service
Before=ssh.service sshd.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
UNIT

if [ -z "$root" ]; then
  systemctl enable ecs-image-host-keys.service
fi
