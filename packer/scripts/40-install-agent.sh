#!/usr/bin/env bash
# Step 40: install the package for this system. Its service is enabled but not started, because its
# registration would be in every host made from the image.
#
# IMAGE_UPLOADS   directory with the uploaded packages
# IMAGE_SETTINGS  settings for every host made from the image, NAME=value, one per line
set -euo pipefail

if command -v dpkg >/dev/null && command -v apt-get >/dev/null; then
  ending=_$(dpkg --print-architecture).deb
else
  ending=.$(uname -m).rpm
fi
shopt -s nullglob
found=("$IMAGE_UPLOADS"/*"$ending")
if [ ${#found[@]} -ne 1 ]; then
  printf 'this system needs one package *%s, but %s were given\n' "$ending" "${#found[@]}" >&2
  printf 'build it with make package, and list it in the variable packages\n' >&2
  exit 1
fi

case $ending in
  *.deb)
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    # Fetch the package lists only if a dependency is missing.
    install=(apt-get -q -y --no-install-recommends install "${found[0]}")
    "${install[@]}" || { apt-get -q update && "${install[@]}"; }
    ;;
  *.rpm)
    dnf -q -y install "${found[0]}"
    ;;
esac

if [ -n "$IMAGE_SETTINGS" ]; then
  # Not /etc/ecs/ecs.config, which is for the host's own settings and wins.
  (umask 077 && printf '%s\n' "$IMAGE_SETTINGS" >/var/lib/ecs/ecs.config)
  PYTHONPATH=/opt/ecs-agent/lib /opt/ecs-agent/bin/python3 -S -B - <<'PYTHON'
import sys

from agent.config import DEFAULT_FILES, load
from agent.errors import ConfigError

try:
    load({}, DEFAULT_FILES)
except ConfigError as error:
    sys.exit(f"the variable settings is invalid: {error}")
PYTHON
fi

# A host that has not joined yet has nothing to start; without this, the service would fail at each
# boot.
mkdir -p /etc/systemd/system/ecs-agent.service.d
cat >/etc/systemd/system/ecs-agent.service.d/10-once-joined.conf <<'CONF'
# For hosts made from an image: the service is enabled from the start, but runs only after the host
# has joined (ecs-agent join URL) or was configured in another way.
[Service]
ExecCondition=/bin/sh -c 'test -n "$$ECS_CONTROL_ENDPOINT" || grep -Eqs "^[[:space:]]*ECS_CONTROL_ENDPOINT=" /etc/ecs/ecs.config /var/lib/ecs/ecs.config'
CONF
# This also reads the drop-in.
systemctl enable ecs-agent.service
