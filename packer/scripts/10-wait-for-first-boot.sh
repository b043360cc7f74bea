#!/usr/bin/env bash
# Step 10: wait until cloud-init is through, since it and a package manager get in each other's way;
# then make the directories for what Packer uploads.
#
# IMAGE_UPLOADS  directory on disk for packages and image archives; taken away by step 80
# IMAGE_TOOLS    directory in memory for what must outlive that
set -euo pipefail

if command -v cloud-init >/dev/null; then
  # Exit 2 is "done, with something to complain of": common on vendors' images and no fault here.
  status=0
  timeout 600 cloud-init status --wait || status=$?
  case $status in
    0 | 2) ;;
    *) printf 'cloud-init did not get through (%s); see /var/log/cloud-init.log there\n' "$status" >&2; exit 1 ;;
  esac
fi

# Packer copies as the user it came in by.
install -d -m 0700 -o "${SUDO_USER:-root}" "$IMAGE_UPLOADS" "$IMAGE_TOOLS"
