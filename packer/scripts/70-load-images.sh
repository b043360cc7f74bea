#!/usr/bin/env bash
# Step 70: load the container images that a host must have without a registry: the pause image from
# the package, and every uploaded archive.
#
# IMAGE_UPLOADS  directory with the archives: every file that is not a package
set -euo pipefail
shopt -s nullglob

# Loaded now, so that the first start on each new host need not load it.
PYTHONPATH=/opt/ecs-agent/lib /opt/ecs-agent/bin/python3 -S -B -m agent.runtime.pause | docker load

for archive in "$IMAGE_UPLOADS"/*; do
  case $archive in
    *.deb | *.rpm) ;;
    *)
      docker load --input "$archive" ||
        { printf '%s is not an image archive; create it with docker save\n' "${archive##*/}" >&2; exit 1; }
      ;;
  esac
done
docker image ls
