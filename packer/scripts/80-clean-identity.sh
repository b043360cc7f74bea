#!/usr/bin/env bash
# Step 80: take away everything that two hosts made from the image must not share, and everything that
# only the build needed. Step 90 checks the result; finish.sh does what Packer's own login still needs.
#
# IMAGE_UPLOADS  directory of what Packer copied here
# IMAGE_ROOT     root of the file system to clean; empty: this machine's own
set -euo pipefail
shopt -s nullglob dotglob

root=${IMAGE_ROOT:-}
uploads=${IMAGE_UPLOADS:-/var/tmp/ecs-image}

# Services write what is being removed until they are stopped, and some once more when they stop.
stop_writers() {
  local unit
  # Sockets first: they would start their service again.
  for unit in docker.socket syslog.socket ecs-agent ecs-agent-control docker containerd rsyslog \
    systemd-random-seed; do
    if systemctl is-active --quiet "$unit"; then
      systemctl stop "$unit"
    fi
  done
  # From here on the journal is in memory only.
  journalctl --relinquish-var
}

# What cloud-init knows of this machine, and what it wrote for this machine's network card.
clean_cloud_init() {
  # A name that cloud-init gave is this machine's; one that was there before belongs to the image.
  if [ -e "$root/var/lib/cloud/data/set-hostname" ]; then
    rm -f "$root/etc/hostname"
  fi
  if [ -z "$root" ] && command -v cloud-init >/dev/null; then
    cloud-init clean --logs --seed
  fi
  rm -rf "$root"/var/lib/cloud/* "$root"/var/log/cloud-init*.log
  rm -f "$root/etc/netplan/50-cloud-init.yaml" \
    "$root/etc/network/interfaces.d/50-cloud-init" \
    "$root"/etc/systemd/network/10-cloud-init-*.network \
    "$root"/etc/NetworkManager/system-connections/cloud-init-*.nmconnection \
    "$root/etc/udev/rules.d/70-persistent-net.rules"
}

clean_system() {
  # Empty, not absent: systemd then gives the host an id and does not take it for a new installation.
  : >"$root/etc/machine-id"
  if [ -f "$root/var/lib/dbus/machine-id" ] && [ ! -L "$root/var/lib/dbus/machine-id" ]; then
    rm -f "$root/var/lib/dbus/machine-id"
  fi
  rm -f "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret" \
    "$root/var/lib/NetworkManager/secret_key" "$root/var/lib/NetworkManager"/*.lease \
    "$root/var/lib/NetworkManager/seen-bssids" "$root/var/lib/NetworkManager/timestamps" \
    "$root/var/lib/dhcp"/*.lease* "$root/var/lib/dhclient"/*.lease* "$root/var/lib/dhcpcd"/*.lease*
  # Who the SSM agent is. It is left running, since Packer may have come in by it.
  rm -rf "$root/var/lib/amazon/ssm/Vault" "$root/var/lib/amazon/ssm/registration"
}

clean_logins() {
  local home
  rm -f "$root"/etc/ssh/ssh_host_*
  for home in "$root/root" "$root"/home/*; do
    rm -f "$home/.ssh/authorized_keys" "$home/.ssh/known_hosts" "$home"/.ssh/id_* \
      "$home"/.*_history "$home/.lesshst" "$home/.viminfo" "$home/.docker/config.json"
    rm -rf "$home/.cache"
  done
  # Copies of the last state of accounts.
  rm -f "$root"/etc/{passwd,shadow,group,gshadow,subuid,subgid}-
  rm -rf "$root"/var/lib/sudo/*
}

clean_agent() {
  rm -rf "$root"/var/lib/ecs/data/* "$root"/var/lib/ecs/control/* "$root"/var/lib/ecs-agent-control/* \
    "$root"/var/log/ecs/*
  rm -f "$root/etc/ecs/control.token"
}

clean_docker() {
  # Images stay; who this engine is and the networks that it made do not.
  rm -f "$root/var/lib/docker/engine-id" "$root/etc/docker/key.json"
  rm -rf "$root/var/lib/docker/network" "$root/var/lib/docker/swarm" "$root"/var/lib/docker/tmp/*
}

clean_caches() {
  if [ -z "$root" ]; then
    if command -v apt-get >/dev/null; then apt-get -q clean; fi
    if command -v dnf >/dev/null; then dnf -q clean all; fi
  fi
  rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
    "$root"/var/cache/dnf/* "$root"/var/cache/yum/* "$root"/var/lib/dnf/history.*
  rm -rf "$uploads"
  # What a service holds there for itself goes with the service.
  find "$root/tmp" "$root/var/tmp" -mindepth 1 -maxdepth 1 \
    ! -name 'systemd-private-*' ! -name '.*-unix' -exec rm -rf {} +
}

# Last, since the steps above write them.
clean_logs() {
  local file
  rm -rf "$root"/var/log/journal/*
  find "$root/var/log" -type f ! -name wtmp ! -name btmp ! -name lastlog -delete
  for file in "$root"/var/log/{wtmp,btmp,lastlog}; do
    : >"$file"
  done
}

if [ -z "$root" ]; then stop_writers; fi
clean_cloud_init
clean_system
clean_logins
clean_agent
clean_docker
clean_caches
clean_logs
