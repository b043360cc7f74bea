#!/usr/bin/env bash
# Step 65: a host made from the image gets its own SSH host keys, with or without cloud-init. If
# cloud-init runs, it creates them first, and this service does nothing.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/systemd/system"
cat >"$root/etc/systemd/system/ecs-image-host-keys.service" <<'UNIT'
[Unit]
Description=Create SSH host keys if there are none
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
