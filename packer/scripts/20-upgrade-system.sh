#!/usr/bin/env bash
# Step 20: the distribution's updates. A new kernel runs from the image's first boot on; nothing that
# follows needs it earlier.
#
# IMAGE_UPGRADE  true, or false to leave the packages as they are
set -euo pipefail

[ "$IMAGE_UPGRADE" = true ] || exit 0

if command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  apt-get -q update
  apt-get -q -y -o Dpkg::Options::=--force-confold dist-upgrade
elif command -v dnf >/dev/null; then
  # Amazon Linux stays at the release it was built from unless it is told otherwise.
  releasever=()
  grep -q '^ID="\{0,1\}amzn' /etc/os-release && releasever=(--releasever=latest)
  dnf -q -y "${releasever[@]}" upgrade
else
  printf 'this system has neither apt-get nor dnf: set upgrade_system=false\n' >&2
  exit 1
fi
