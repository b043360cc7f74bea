#!/usr/bin/env bash
# Step 50: configure the Docker Engine for running tasks; it reads the file at the host's first
# boot. Existing settings are kept, so that an image made from your own image keeps its
# configuration.
set -euo pipefail

root=${IMAGE_ROOT:-}
mkdir -p "$root/etc/docker"
python3 - "$root/etc/docker/daemon.json" <<'PYTHON'
import json
import pathlib
import sys

WANTED = {
    # Containers keep running while the engine is restarted or upgraded.
    "live-restore": True,
    # Unlimited logs of one container would fill the disk for all.
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}

path = pathlib.Path(sys.argv[1])
text = path.read_text() if path.exists() else ""
given = json.loads(text) if text.strip() else {}
if "log-driver" in given and "log-opts" not in given:
    WANTED.pop("log-opts")  # they are only for json-file
merged = {**WANTED, **given}
if merged != given:
    path.write_text(json.dumps(merged, indent=2) + "\n")
PYTHON
