#!/usr/bin/env bash
# Step 80: remove everything that two hosts made from the image must not share, and everything that
# only the build needed. Step 90 checks the result; finish.sh removes what Packer's login still
# needs.
#
# IMAGE_UPLOADS  directory with Packer's uploads
# IMAGE_ROOT     root of the file system to clean; empty: this machine's own
set -euo pipefail
shopt -s nullglob dotglob

root=${IMAGE_ROOT:-}
uploads=${IMAGE_UPLOADS:-/var/tmp/ecs-image}

# Running services keep writing the files that are removed here, and some write them when they stop.
stop_writers() {
  local unit
  # Sockets first, because they would start their service again.
  for unit in docker.socket syslog.socket ecs-agent ecs-agent-control docker containerd rsyslog \
    systemd-random-seed; do
    if systemctl is-active --quiet "$unit"; then
      systemctl stop "$unit"
    fi
  done
  # From now on, the journal is only in memory.
  journalctl --relinquish-var
}

# What cloud-init knows about this machine, and what it wrote for this machine's network card.
clean_cloud_init() {
  # A host name set by cloud-init belongs to this machine; an earlier one belongs to the image.
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
  # Empty, not absent: then systemd creates an id but does not treat the host as a new installation.
  : >"$root/etc/machine-id"
  if [ -f "$root/var/lib/dbus/machine-id" ] && [ ! -L "$root/var/lib/dbus/machine-id" ]; then
    rm -f "$root/var/lib/dbus/machine-id"
  fi
  rm -f "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret" \
    "$root/var/lib/NetworkManager/secret_key" "$root/var/lib/NetworkManager"/*.lease \
    "$root/var/lib/NetworkManager/seen-bssids" "$root/var/lib/NetworkManager/timestamps" \
    "$root/var/lib/dhcp"/*.lease* "$root/var/lib/dhclient"/*.lease* "$root/var/lib/dhcpcd"/*.lease*
  # The identity of the SSM agent. It keeps running, because Packer may be connected through it.
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
  # Backup copies of the account files.
  rm -f "$root"/etc/{passwd,shadow,group,gshadow,subuid,subgid}-
  rm -rf "$root"/var/lib/sudo/*
}

clean_agent() {
  rm -rf "$root"/var/lib/ecs/data/* "$root"/var/lib/ecs/control/* "$root"/var/lib/ecs-agent-control/* \
    "$root"/var/log/ecs/*
  rm -f "$root/etc/ecs/control.token"
}

clean_docker() {
  # Keep images, but remove the engine's identity and its networks.
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
  # Private directories of services are removed with the service.
  find "$root/tmp" "$root/var/tmp" -mindepth 1 -maxdepth 1 \
    ! -name 'systemd-private-*' ! -name '.*-unix' -exec rm -rf {} +
}

# Last, because the steps above write logs.
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
