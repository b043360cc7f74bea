#!/usr/bin/env bash
# Step 50: settings of the Docker Engine for a host of tasks, which it reads at the host's first boot.
# What its configuration says already is kept, so that an image made from an image of one's own stays as
# it was meant.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/docker"
python3 - "$root/etc/docker/daemon.json" <<'PYTHON'
import json
import pathlib
import sys

WANTED = {
    # Containers run on while the engine is restarted or upgraded.
    "live-restore": True,
    # Unbounded logs of one container fill the disk of all.
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}

path = pathlib.Path(sys.argv[1])
text = path.read_text() if path.exists() else ""
given = json.loads(text) if text.strip() else {}
if "log-driver" in given and "log-opts" not in given:
    WANTED.pop("log-opts")  # they are json-file's own
merged = {**WANTED, **given}
if merged != given:
    path.write_text(json.dumps(merged, indent=2) + "\n")
PYTHON
