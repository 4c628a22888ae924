#!/usr/bin/env bash
# Runs every example against the real daemon and checks the results:
#
# - each producer commits an order and submits its event, and a second run sends nothing twice;
# - each consumer accepts signed deliveries, drops a repeat, and refuses the same delivery with its body, id, time or
#   signature changed.
#
# Needs cargo, curl, node and python3, the built npm package (verifier/js/npm/build.js) and its installed runtimes. The
# daemon is $TESTED_BINARY, with the Rust examples of the last build; without it they are built here.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}/debug
if [[ -z ${TESTED_BINARY:-} ]]; then
    bins=(--bin stormhook --bin stormhook-example-producer-rust)
    for framework in actix axum hyper; do bins+=(--bin "stormhook-example-consumer-$framework"); done
    # As part of the whole workspace: their dependencies are then compiled as they are for the tests.
    cargo build --locked --quiet --workspace --all-features "${bins[@]}"
    TESTED_BINARY=$target/stormhook
fi

folder=$(mktemp -d)
children=()
failures=0
cleanup() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap cleanup EXIT

fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

# Waits for a line in a file that a process of ours writes; bounded.
await_line() {
    local file=$1 pattern=$2
    for _ in $(seq 600); do
        grep -q -- "$pattern" "$file" 2>/dev/null && return 0
        sleep 0.05
    done
    echo "no '$pattern' in $(basename "$file"), which says:" >&2
    cat "$file" >&2
    return 1
}

start() { # name, command…
    local name=$1
    shift
    "$@" >"$folder/$name.log" 2>"$folder/$name.err" &
    children+=($!)
}

call() { curl --silent --show-error --fail-with-body --unix-socket "$STORMHOOK_SOCKET" "$@"; }

# --- the daemon

export STORMHOOK_SOCKET=$folder/s.sock
cat >"$folder/stormhook.toml" <<END
data_dir = "$folder/data"
socket = "$STORMHOOK_SOCKET"
listen = "off"
[target]
allow = ["127.0.0.0/8"]
allow_http = true
[limits]
disk_reserve = "1MiB"
END
start daemon "$TESTED_BINARY" serve --config "$folder/stormhook.toml"
await_line "$folder/daemon.log" . || { cat "$folder/daemon.err" >&2; exit 1; }

# --- the consumers, and a recorder that keeps one signed delivery to tamper with

export STORMHOOK_SECRET
STORMHOOK_SECRET=whsec_$(head -c 32 /dev/urandom | base64)
export PORT=0
for framework in actix axum hyper; do
    start "consumer-$framework" "$target/stormhook-example-consumer-$framework"
done
start consumer-node node examples/consumer-node/consumer.js
start consumer-python python3 examples/consumer-python/consumer.py
cat >"$folder/recorder.py" <<'END'
"""Keeps the first delivery it gets: its body, and its headers as a curl configuration."""
import http.server, os, sys

class Recorder(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not os.path.exists(sys.argv[1] + "/headers"):
            open(sys.argv[1] + "/body", "wb").write(body)
            names = ("content-type", "webhook-id", "webhook-timestamp", "webhook-signature")
            lines = "".join(f"{name}: {self.headers[name]}\n" for name in names)
            open(sys.argv[1] + "/headers.new", "w").write(lines)
            os.rename(sys.argv[1] + "/headers.new", sys.argv[1] + "/headers")
        self.send_response(204)
        self.end_headers()
        print("recorded", flush=True)

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Recorder)
print(f"listening on http://127.0.0.1:{server.server_address[1]}/hooks", flush=True)
server.serve_forever()
END
start recorder python3 "$folder/recorder.py" "$folder"

. examples/npm.sh
consumers=(consumer-actix consumer-axum consumer-hyper consumer-node consumer-python "${npm_consumers[@]}")
declare -A url
for name in "${consumers[@]}" recorder; do
    await_line "$folder/$name.log" '^listening on ' || { cat "$folder/$name.err" >&2; exit 1; }
    url[$name]=$(sed -n 's/^listening on //p' "$folder/$name.log")
    call --header 'content-type: application/json' --output /dev/null http://stormhook/v1/endpoints --data-binary \
        "{\"organizationId\":\"shop\",\"url\":\"${url[$name]}\",\"eventTypes\":[\"order.*\"],\"secret\":\"$STORMHOOK_SECRET\"}"
done

# --- the producers

produce() { # name, order id
    case $1 in
        producer-shell) examples/producer-shell/producer.sh "$folder/orders-$1" "$2" 4200 ;;
        producer-node) node examples/producer-node/producer.js "$folder/orders-$1" "$2" 4200 ;;
        producer-rust) "$target/stormhook-example-producer-rust" "$folder/orders-$1" "$2" 4200 ;;
    esac
}
producers=(producer-shell producer-node producer-rust)
events=()
for name in "${producers[@]}"; do
    answer=$(produce "$name" "$name-1") || fail "$name: $answer"
    id=$(grep -o 'evt_[0-9A-Z]*' <<<"$answer" | head -1)
    [[ -n $id ]] || fail "$name printed no event id: $answer"
    events+=("$id")
    # As after a crash between sending and recording: the same event again, not another one.
    rm "$folder/orders-$name/$name-1.sent"
    answer=$(produce "$name" "$name-2") || fail "$name again: $answer"
    grep -q "$id" <<<"$answer" || fail "$name made another event of the same order: $answer"
    other=$(grep -o 'evt_[0-9A-Z]*' <<<"$answer" | grep -v "$id" | head -1) || true
    [[ -n $other ]] || fail "$name sent no event of its second order: $answer"
    events+=("$other")
done

# Data that JSON allows but not every parser accepts: half of a surrogate pair, a number beyond a double, an integer of
# 5,000 digits, and the deepest nesting that the daemon accepts.
nested=$(printf '[%.0s' $(seq 127))$(printf ']%.0s' $(seq 127))
odd="[\"\\ud800\",1e400,$(printf '9%.0s' $(seq 5000)),$nested]"
answer=$(call --header 'content-type: application/json' http://stormhook/v1/events \
    --data-binary "{\"organizationId\":\"shop\",\"type\":\"order.created\",\"data\":$odd}") || fail "the odd event: $answer"
events+=("$(grep -o 'evt_[0-9A-Z]*' <<<"$answer")")

# --- checks of the consumers

for name in "${consumers[@]}"; do
    for id in "${events[@]}"; do
        await_line "$folder/$name.log" "^accepted $id order.created" || fail "$name did not accept $id"
    done
    count=$(grep -c '^accepted ' "$folder/$name.log")
    [[ $count == "${#events[@]}" ]] || fail "$name accepted $count events, not ${#events[@]}"
    if grep -q '^refused ' "$folder/$name.log"; then fail "$name refused what the daemon signed"; fi
done

await_line "$folder/recorder.log" '^recorded'
send() { # consumer, headers, body: prints the status
    curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 \
        --header "@$2" --data-binary "@$3" "${url[$1]}"
}
sed 's/4200/9900/' "$folder/body" >"$folder/body-changed"
sed 's/^webhook-id: .*/webhook-id: evt_01ARZ3NDEKTSV4RRFFQ69G5FAV/' "$folder/headers" >"$folder/headers-id"
sed 's/^webhook-timestamp: .*/webhook-timestamp: 1750000000/' "$folder/headers" >"$folder/headers-time"
sed 's/^webhook-signature: v1,..../webhook-signature: v1,AAAA/' "$folder/headers" >"$folder/headers-signature"
grep -v '^webhook-signature' "$folder/headers" >"$folder/headers-unsigned"
cmp -s "$folder/body" "$folder/body-changed" && fail "the tampered body is the same"
for name in "${consumers[@]}"; do
    [[ $(send "$name" "$folder/headers" "$folder/body") == 20[04] ]] || fail "$name refused a repeat"
    await_line "$folder/$name.log" '^repeat ' || fail "$name did not see that it was a repeat"
    status=$(send "$name" "$folder/headers" "$folder/body-changed")
    [[ $status == 401 ]] || fail "$name answered $status to a changed body"
    for change in id time signature unsigned; do
        status=$(send "$name" "$folder/headers-$change" "$folder/body")
        [[ $status == 401 ]] || fail "$name answered $status to a changed header ($change)"
    done
    count=$(grep -c '^accepted ' "$folder/$name.log")
    [[ $count == "${#events[@]}" ]] || fail "$name accepted what it should have dropped or refused"
    echo "$name: ${#events[@]} accepted, $(grep -c '^repeat ' "$folder/$name.log") repeat dropped, $(grep -c '^refused ' "$folder/$name.log") refused"
done
echo "producers: ${producers[*]}: ${#events[@]} events"
((failures == 0)) || exit 1
echo "all examples behave"
