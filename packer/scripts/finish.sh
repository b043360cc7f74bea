#!/usr/bin/env bash
# The end of a qemu build, run as Packer's shutdown command: remove the build user, with which
# Packer is logged in, check the image once more, and power off. If the check fails, the machine
# stays on, and Packer fails the build after its timeout.
#
# Usage: finish.sh USER
set -euo pipefail

user=$1
# Packer's command starts in the user's home directory.
cd /

# Forced, because Packer's connection is a process of this user.
if getent passwd "$user" >/dev/null; then
  userdel --force --remove "$user" 2>/dev/null || true
fi
while IFS= read -r file; do
  sed -i "/\\b$user\\b/d" "$file"
  # If only comments are left, the file was only for this user.
  if ! grep -qv '^[[:space:]]*\(#.*\)\{0,1\}$' "$file"; then rm -f "$file"; fi
done < <(grep -rlw -- "$user" /etc/sudoers.d)
rm -f /etc/{passwd,shadow,group,gshadow,subuid,subgid}-
rm -rf /var/lib/sudo/* /tmp/script_*.sh

bash "$(dirname "$0")/90-check-image.sh" "$user"

# Return blocks of deleted files to the host, so that the image is small and does not contain them.
fstrim --all || true
sync
systemctl poweroff
