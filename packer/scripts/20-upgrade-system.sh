#!/usr/bin/env bash
# Step 20: install the distribution's updates. A new kernel is used from the image's first boot on;
# no later step needs it before.
#
# IMAGE_UPGRADE  true, or false to keep the packages unchanged
set -euo pipefail

[ "$IMAGE_UPGRADE" = true ] || exit 0

if command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  apt-get -q update
  apt-get -q -y -o Dpkg::Options::=--force-confold dist-upgrade
elif command -v dnf >/dev/null; then
  # By default, Amazon Linux stays at the release that it was built from.
  releasever=()
  grep -q '^ID="\{0,1\}amzn' /etc/os-release && releasever=(--releasever=latest)
  dnf -q -y "${releasever[@]}" upgrade
else
  printf 'this system has neither apt-get nor dnf; set upgrade_system=false\n' >&2
  exit 1
fi
