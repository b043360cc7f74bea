#!/usr/bin/env bash
# Step 10: wait until cloud-init has finished, because it conflicts with package managers; then
# create the directories for Packer's uploads.
#
# IMAGE_UPLOADS  directory on disk for packages and image archives; removed by step 80
# IMAGE_TOOLS    directory in memory for files that are needed after step 80
set -euo pipefail

if command -v cloud-init >/dev/null; then
  # Exit 2 is "done with warnings": common on vendor images, and not an error here.
  status=0
  timeout 600 cloud-init status --wait || status=$?
  case $status in
    0 | 2) ;;
    *) printf 'cloud-init failed (%s); see its /var/log/cloud-init.log\n' "$status" >&2; exit 1 ;;
  esac
fi

# Packer copies files as its login user.
install -d -m 0700 -o "${SUDO_USER:-root}" "$IMAGE_UPLOADS" "$IMAGE_TOOLS"
