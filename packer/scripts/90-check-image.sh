#!/usr/bin/env bash
# Step 90: fail the build if anything is left that two hosts made from the image would share.
# Reports all faults, not only the first.
#
# Usage: 90-check-image.sh [USER]       USER is the build user, which must be gone too
# IMAGE_ROOT  root of the file system to check; empty: this machine's own
set -euo pipefail
shopt -s nullglob dotglob

root=${IMAGE_ROOT:-}
build_user=${1:-}
faults=0

fault() {
  printf 'left in the image: %s\n' "${1#"$root"}" >&2
  faults=$((faults + 1))
}

# Each name that exists is a fault.
absent() {
  local path
  for path in "$@"; do
    if [ -e "$path" ] || [ -L "$path" ]; then fault "$path"; fi
  done
}

# A directory may stay, but its files may not.
without_files() {
  local path file
  for path in "$@"; do
    [ -d "$path" ] || continue
    while IFS= read -r file; do fault "$file"; done < <(find "$path" -type f)
  done
}

check_system() {
  if [ ! -e "$root/etc/machine-id" ]; then
    fault "a system without /etc/machine-id, which must exist and be empty"
  elif [ -s "$root/etc/machine-id" ]; then
    fault "$root/etc/machine-id is not empty"
  fi
  if [ ! -L "$root/var/lib/dbus/machine-id" ]; then absent "$root/var/lib/dbus/machine-id"; fi
  absent "$root/var/lib/systemd/random-seed" "$root/var/lib/systemd/credential.secret" \
    "$root/var/lib/NetworkManager/secret_key" "$root/var/lib/NetworkManager"/*.lease \
    "$root/var/lib/dhcp"/*.lease* "$root/var/lib/dhclient"/*.lease* "$root/var/lib/dhcpcd"/*.lease* \
    "$root/etc/netplan/50-cloud-init.yaml" "$root/etc/network/interfaces.d/50-cloud-init" \
    "$root/etc/udev/rules.d/70-persistent-net.rules"
  absent "$root/var/lib/amazon/ssm/Vault" "$root/var/lib/amazon/ssm/registration"
  without_files "$root/var/lib/cloud"
}

check_logins() {
  local home
  absent "$root"/etc/ssh/ssh_host_*
  for home in "$root/root" "$root"/home/*; do
    absent "$home/.ssh/authorized_keys" "$home"/.ssh/id_* "$home"/.*_history "$home/.docker/config.json"
  done
  [ -n "$build_user" ] || return 0
  if grep -q "^$build_user:" "$root/etc/passwd" "$root/etc/shadow" "$root/etc/group"; then
    fault "the user $build_user"
  fi
  if grep -rqsw -- "$build_user" "$root/etc/sudoers.d"; then
    fault "the right of $build_user to become root"
  fi
  absent "$root/home/$build_user" "$root/var/mail/$build_user"
}

check_host() {
  without_files "$root/var/lib/ecs/data" "$root/var/lib/ecs/control" "$root/var/lib/ecs-agent-control"
  absent "$root/etc/ecs/control.token" \
    "$root/var/lib/docker/engine-id" "$root/etc/docker/key.json" "$root/var/lib/docker/network" \
    "$root/var/lib/docker/swarm" "$root"/var/lib/docker/containers/*
}

check_leftovers() {
  local file
  while IFS= read -r file; do fault "$file"; done < <(find "$root/var/log" -type f -size +0)
  absent "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/dnf/*
  # Packer runs its own script from there.
  while IFS= read -r file; do fault "$file"; done < <(
    find "$root/tmp" "$root/var/tmp" -name 'systemd-private-*' -prune -o \
      -type f ! -name 'script_*.sh' -print
  )
}

check_system
check_logins
check_host
check_leftovers
if [ "$faults" -gt 0 ]; then
  printf 'the image must not be cloned: %s faults; see 80-clean-identity.sh\n' "$faults" >&2
  exit 1
fi
