#!/usr/bin/env bash
# Step 40: the package that fits this system, its service enabled and not started: what it would
# register here would be in every host made from the image.
#
# IMAGE_UPLOADS   directory that the packages were copied to
# IMAGE_SETTINGS  settings for every host made from the image, NAME=value, one a line
set -euo pipefail

if command -v dpkg >/dev/null && command -v apt-get >/dev/null; then
  ending=_$(dpkg --print-architecture).deb
else
  ending=.$(uname -m).rpm
fi
shopt -s nullglob
found=("$IMAGE_UPLOADS"/*"$ending")
if [ ${#found[@]} -ne 1 ]; then
  printf 'this system takes one package *%s, and %s were given\n' "$ending" "${#found[@]}" >&2
  printf 'name it in packages; build it with make package\n' >&2
  exit 1
fi

case $ending in
  *.deb)
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    # What the package needs may be there already; only if not, the lists are worth fetching.
    install=(apt-get -q -y --no-install-recommends install "${found[0]}")
    "${install[@]}" || { apt-get -q update && "${install[@]}"; }
    ;;
  *.rpm)
    dnf -q -y install "${found[0]}"
    ;;
esac

if [ -n "$IMAGE_SETTINGS" ]; then
  # Not /etc/ecs/ecs.config: that is the host's own, and wins.
  (umask 077 && printf '%s\n' "$IMAGE_SETTINGS" >/var/lib/ecs/ecs.config)
  PYTHONPATH=/opt/ecs-agent/lib /opt/ecs-agent/bin/python3 -S -B - <<'PYTHON'
import sys

from agent.config import DEFAULT_FILES, load
from agent.errors import ConfigError

try:
    load({}, DEFAULT_FILES)
except ConfigError as error:
    sys.exit(f"the variable settings: {error}")
PYTHON
fi

# A host that has not joined yet has nothing to start: not a failed service at each boot until then.
mkdir -p /etc/systemd/system/ecs-agent.service.d
cat >/etc/systemd/system/ecs-agent.service.d/10-once-joined.conf <<'CONF'
# In hosts made from an image: the service is enabled from the start and runs once the host has joined
# (ecs-agent join URL) or was configured in another way.
[Service]
ExecCondition=/bin/sh -c 'test -n "$$ECS_CONTROL_ENDPOINT" || grep -Eqs "^[[:space:]]*ECS_CONTROL_ENDPOINT=" /etc/ecs/ecs.config /var/lib/ecs/ecs.config'
CONF
# Reads the drop-in, too.
systemctl enable ecs-agent.service
