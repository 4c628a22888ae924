#!/usr/bin/env bash
# Installs the two npm packages by their lock file and sends their real payloads through the daemon: $TESTED_BINARY, or
# the workspace's debug build.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --no-progress >/dev/null
exec node check.js
