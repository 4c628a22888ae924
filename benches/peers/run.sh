#!/usr/bin/env bash
# Measures job queues on the same work as stormhook, in the same run. Finds or installs what it needs, builds the
# release binaries, and always ends every process that it started. See README.md for the options.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
called_in="$PWD"

# On a disk (/tmp may be in memory), and accessible to PostgreSQL's user.
dir=/var/tmp daemon= benches= json= peers= rest=()
usage() {
    sed -n '/^```text/,/^```/p' "$here/README.md" | grep -v '^```'
}
while [ $# -gt 0 ]; do
    case $1 in
    --dir | --daemon | --benches | --json | --peers)
        [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift 2
        ;;
    --quick) rest+=(--events 1000 --tune-events 400 --rounds 1 --steady-seconds 3 --waiting 5000); shift ;;
    --help | -h) usage; exit 0 ;;
    *) rest+=("$1"); shift ;;
    esac
done

. "$here/install.sh"
install_packages
programs=()
case ",${peers:-bullmq}," in
*bullmq*)
    install_redis
    programs+=(--redis "$(command -v redis-server)")
    ;;
esac
case ",${peers:-pg-boss}," in
*pg-boss* | *graphile*)
    install_postgresql
    programs+=(--postgres "$(find_postgres postgres)" --initdb "$(find_postgres initdb)")
    ;;
esac

if [ -z "$daemon" ] || [ -z "$benches" ]; then
    (cd "$root" && cargo build --release --locked -p stormhook -p stormhook-benches)
    built="${CARGO_TARGET_DIR:-$root/target}/release"
    daemon="${daemon:-$built/stormhook}" benches="${benches:-$built/stormhook-benches}"
fi
for program in "$daemon" "$benches"; do
    [ -x "$program" ] || { echo "$program is not an executable" >&2; exit 1; }
done
case $json in "" | /*) ;; *) json="$called_in/$json" ;; esac

folder="$(mktemp -d "$dir/stormhook-peers.XXXXXX")"
node_pid=

# The start time identifies the process, in case its pid has been reused.
finish() {
    trap - EXIT
    trap '' INT TERM
    if [ -n "$node_pid" ] && kill -TERM "$node_pid" 2>/dev/null; then wait "$node_pid" || true; fi
    local pid started
    while read -r pid started; do
        if [ "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d ' ' -f 20)" = "$started" ]; then
            kill -INT "$pid" 2>/dev/null || true
            for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done < <(cat "$folder/pids" 2>/dev/null)
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# In the background and awaited, so that signals are handled immediately.
node "$here/bench.js" --folder "$folder" --daemon "$daemon" --benches "$benches" "${programs[@]}" \
    ${peers:+--peers "$peers"} ${json:+--json "$json"} "${rest[@]}" &
node_pid=$!
status=0
wait "$node_pid" || status=$?
node_pid=
exit "$status"
