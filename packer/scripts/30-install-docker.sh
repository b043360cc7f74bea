#!/usr/bin/env bash
# Step 30: install a Docker Engine unless there is one, and start it for the next steps.
#
# IMAGE_DOCKER_PACKAGE  package to install; empty: the distribution's package
set -euo pipefail

if ! command -v dockerd >/dev/null; then
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    apt-get -q update
    apt-get -q -y --no-install-recommends install "${IMAGE_DOCKER_PACKAGE:-docker.io}"
  elif command -v dnf >/dev/null; then
    dnf -q -y install "${IMAGE_DOCKER_PACKAGE:-docker}"
  else
    printf 'this system has neither apt-get nor dnf; start from a disk that has Docker\n' >&2
    exit 1
  fi
fi

systemctl enable --now docker.service
