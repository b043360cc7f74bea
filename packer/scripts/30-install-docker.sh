#!/usr/bin/env bash
# Step 30: a Docker Engine, unless there is one already, started for the steps that follow.
#
# IMAGE_DOCKER_PACKAGE  package to install; empty: the one of the distribution
set -euo pipefail

if ! command -v dockerd >/dev/null; then
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    apt-get -q update
    apt-get -q -y --no-install-recommends install "${IMAGE_DOCKER_PACKAGE:-docker.io}"
  elif command -v dnf >/dev/null; then
    dnf -q -y install "${IMAGE_DOCKER_PACKAGE:-docker}"
  else
    printf 'this system has neither apt-get nor dnf: start from a disk that has Docker\n' >&2
    exit 1
  fi
fi

systemctl enable --now docker.service
