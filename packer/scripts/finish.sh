#!/usr/bin/env bash
# The end of a qemu build, run as Packer's shutdown command: remove the build's own user, by whom
# Packer is logged in until now, check the image once more, and switch off. Where the check fails the
# machine stays on, and Packer fails the build when it has waited long enough.
#
# Usage: finish.sh USER
set -euo pipefail

user=$1
# Packer's command begins in the home of the user.
cd /

# Forced, because Packer's connection is a process of this user.
if getent passwd "$user" >/dev/null; then
  userdel --force --remove "$user" 2>/dev/null || true
fi
while IFS= read -r file; do
  sed -i "/\\b$user\\b/d" "$file"
  # Where only comments are left, the file was for this user alone.
  if ! grep -qv '^[[:space:]]*\(#.*\)\{0,1\}$' "$file"; then rm -f "$file"; fi
done < <(grep -rlw -- "$user" /etc/sudoers.d)
rm -f /etc/{passwd,shadow,group,gshadow,subuid,subgid}-
rm -rf /var/lib/sudo/* /tmp/script_*.sh

bash "$(dirname "$0")/90-check-image.sh" "$user"

# Blocks of deleted files go back to the host, so that the file stays small and nobody reads them.
fstrim --all || true
sync
systemctl poweroff
