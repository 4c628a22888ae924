#!/usr/bin/env bash
# Installs the two npm packages by the lock file and feeds their real payloads through the daemon.
# The daemon is $TESTED_BINARY, else the workspace's debug build.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --no-progress >/dev/null
exec node check.js
