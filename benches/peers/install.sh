#!/usr/bin/env bash
# Installs what the peers need: the npm packages of the lock file, and the named Debian packages of `redis` and
# `postgresql`. Sourced by run.sh, and called by `stormhook-benches cluster`:
#
#     benches/peers/install.sh [redis] [postgresql]
peers_folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# Installs exactly the versions of the lock file.
install_packages() {
    local lock=$peers_folder/package-lock.json installed=$peers_folder/node_modules/.package-lock.json
    command -v node >/dev/null || { echo "missing: node, 20.18.1 or later" >&2; exit 1; }
    [ "$installed" -nt "$lock" ] || (cd "$peers_folder" && npm ci >&2)
}

find_postgres() {
    local program
    for program in "$(command -v "$1" || true)" $(printf '%s\n' /usr/lib/postgresql/*/bin/"$1" | sort -rV); do
        [ -x "$program" ] && { echo "$program"; return; }
    done
    return 0
}

# Installs Debian packages as root; otherwise names the missing ones. The run level makes their scripts start nothing.
install_debian() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2
    else
        echo "missing: $*. Install it (as root: apt-get install --no-install-recommends $*), or exclude its peers with --peers" >&2
        exit 1
    fi
}

install_redis() {
    command -v redis-server >/dev/null || install_debian redis-server
}

install_postgresql() {
    [ -n "$(find_postgres postgres)" ] && [ -n "$(find_postgres initdb)" ] || install_debian postgresql
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    install_packages
    for name in "$@"; do
        "install_$name"
    done
fi
