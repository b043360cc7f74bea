#!/usr/bin/env bash
# Step 40: the package that fits this system, its service enabled and not started: what it would
# register here would be in every host made from the image.
#
# IMAGE_UPLOADS  directory that the packages were copied to
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

systemctl enable ecs-agent.service
ecs-agent version
