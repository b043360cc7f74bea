#!/usr/bin/env bash
# Step 70: the container images that a host shall have before it has reached any registry: the pause
# image out of the package, and every archive that was copied here.
#
# IMAGE_UPLOADS  directory of the archives: everything in it that is no package
set -euo pipefail
shopt -s nullglob

# Loaded now, so that the first start on each new host need not.
PYTHONPATH=/opt/ecs-agent/lib /opt/ecs-agent/bin/python3 -S -B -m agent.runtime.pause | docker load

for archive in "$IMAGE_UPLOADS"/*; do
  case $archive in
    *.deb | *.rpm) ;;
    *)
      docker load --input "$archive" ||
        { printf '%s is no image archive; write it with docker save\n' "${archive##*/}" >&2; exit 1; }
      ;;
  esac
done
docker image ls
