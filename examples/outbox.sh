#!/usr/bin/env bash
# Runs the producers that commit an order and its event in one transaction, against a real PostgreSQL, the real daemon
# and a real consumer: first with the store in a file, then with the store in the same database.
#
# - Each order that commits is one event, with the id that the producer got if the store is in the database.
# - An order that fails, or whose event is refused, leaves neither.
#
# Needs node, npm and PostgreSQL's programs. The daemon is $TESTED_BINARY.
set -euo pipefail
cd "$(dirname "$0")/.."
programs=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1) || {
    echo "PostgreSQL is not installed: the outbox examples are not run" >&2
    exit 0
}
daemon=${TESTED_BINARY:-${CARGO_TARGET_DIR:-target}/debug/stormhook}
folder=$(mktemp -d)
chmod 755 "$folder"
children=()
cleanup() {
    for child in "${children[@]}"; do kill "$child" 2>/dev/null || true; done
    [[ ! -e $folder/pg/postmaster.pid ]] || as_server pg_ctl --pgdata "$folder/pg" --mode immediate stop >/dev/null || true
    wait
    rm -rf "$folder"
}
trap cleanup EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# Waits for a line in a file that a process of ours writes; bounded.
await_line() {
    for _ in $(seq 600); do
        grep -q -- "$2" "$1" 2>/dev/null && return 0
        sleep 0.05
    done
    cat "$1" >&2
    fail "no '$2' in $(basename "$1")"
}

# --- the database, on a socket of its own

# The server refuses to run as root.
as_server() {
    local program=$1
    shift
    if [[ $(id -u) == 0 ]]; then
        setpriv --reuid postgres --regid postgres --clear-groups -- "$programs/$program" "$@"
    else
        "$programs/$program" "$@"
    fi
}
mkdir "$folder/pg"
[[ $(id -u) != 0 ]] || chown postgres "$folder/pg"
chmod 700 "$folder/pg"
as_server initdb --pgdata "$folder/pg" --username owner --auth trust --no-sync >/dev/null
as_server pg_ctl --pgdata "$folder/pg" --wait --log "$folder/pg/log" \
    --options "-c listen_addresses= -c unix_socket_directories=$folder/pg -c fsync=off" start >/dev/null
chmod 755 "$folder/pg"
database() { echo "postgres://$1@/postgres?host=$folder/pg"; }
query() { psql --no-psqlrc --quiet --tuples-only --no-align "$(database owner)" --command "$1"; }
query "CREATE TABLE orders (id text PRIMARY KEY, amount int NOT NULL CHECK (amount > 0));
       CREATE ROLE shop LOGIN; GRANT SELECT, INSERT ON orders TO shop"

# --- Prisma's client, made from the schema. Making it needs none of the engines that `prisma` would download.

prisma=$folder/prisma
cp -r examples/producer-prisma "$prisma"
(cd "$prisma" && npm ci --no-progress --silent &&
    PRISMA_SCHEMA_ENGINE_BINARY=/bin/true npx --no-install prisma generate >"$folder/generate.log" 2>&1) ||
    { cat "$folder/generate.log" >&2; fail "prisma generate"; }

produce() { # producer, order, amount: prints the event's id
    case $1 in
        prisma) DATABASE_URL="postgres://shop@localhost/postgres?host=$folder/pg" node "$prisma/producer.js" "${@:2}" ;;
        sql) psql --no-psqlrc --quiet "$(database shop)" --set "id=$2" --set "amount=$3" --file examples/producer-sql/producer.sql ;;
    esac
}

# --- a consumer

export STORMHOOK_SECRET PORT=0
STORMHOOK_SECRET=whsec_$(head -c 32 /dev/urandom | base64)
node examples/consumer-node/consumer.js >"$folder/consumer.log" 2>&1 &
children+=($!)
await_line "$folder/consumer.log" '^listening on '
url=$(sed -n 's/^listening on //p' "$folder/consumer.log")

run_with() { # store
    local store=$1 socket=$folder/$1.sock config=$folder/$1.toml accepted only=
    local key=store.url
    [[ $store == database ]] || { key=outbox.url only=--outbox-only; }
    cat >"$config" <<END
data_dir = "$folder/$store"
socket = "$socket"
listen = "off"
${key%.*} = { ${key#*.} = "$(database owner)" }
target = { allow = ["127.0.0.0/8"], allow_http = true }
limits = { disk_reserve = "1MiB" }
END
    "$daemon" migrate $only --config "$config" >/dev/null
    query 'GRANT USAGE ON SCHEMA stormhook TO shop'
    "$daemon" serve --config "$config" >"$folder/$store.log" 2>"$folder/$store.err" &
    local process=$!
    children+=("$process")
    await_line "$folder/$store.log" ready
    curl --silent --show-error --fail-with-body --unix-socket "$socket" --header 'content-type: application/json' \
        --output /dev/null http://stormhook/v1/endpoints --data-binary \
        "{\"organizationId\":\"shop\",\"url\":\"$url\",\"eventTypes\":[\"order.*\"],\"secret\":\"$STORMHOOK_SECRET\"}"
    for producer in prisma sql; do
        local order=$producer-$store id refused before
        before=$(grep -c '^accepted ' "$folder/consumer.log" || true)
        id=$(produce "$producer" "$order" 4200) || fail "$producer: $id"
        [[ $id =~ ^evt_[0-9A-Z]{26}$ ]] || fail "$producer printed no id of an event: $id"
        for _ in $(seq 600); do
            accepted=$(grep '^accepted ' "$folder/consumer.log" | tail -n +$((before + 1)) || true)
            [[ -z $accepted ]] || break
            sleep 0.05
        done
        [[ $accepted == 'accepted evt_'*' order.created' ]] || fail "the consumer accepted '$accepted' of $producer"
        [[ $store == file || $accepted == "accepted $id "* ]] || fail "$producer got $id, and the consumer $accepted"
        # The same order again, and one that the table refuses: no event.
        ! produce "$producer" "$order" 4200 >/dev/null 2>&1 || fail "$producer committed an order twice"
        ! produce "$producer" "$order-free" 0 >/dev/null 2>&1 || fail "$producer committed an order for nothing"
    done
    # An event that is refused takes its order with it.
    ! refused=$(produce prisma "bad-$store" 4200 'not a type' 2>&1) || fail "a bad type was accepted"
    grep -q 'type must be parts of' <<<"$refused" || fail "the refusal does not name the argument: $refused"
    [[ $(query "SELECT count(*) FROM orders WHERE id LIKE '%$store'") == 2 ]] || fail "orders: $(query 'SELECT * FROM orders')"
    [[ $(query 'SELECT count(*) FROM stormhook.outbox') == 0 ]] || fail "the outbox is not empty"
    kill "$process"
    wait "$process" || fail "the daemon ended badly"
    echo "store in a ${store}: an order and its event each from Prisma and SQL; 5 refused, neither order nor event"
}
run_with file
run_with database
[[ $(grep -c '^accepted ' "$folder/consumer.log") == 4 ]] || fail "the consumer accepted $(grep -c '^accepted ' "$folder/consumer.log"), not 4"
echo "the outbox examples behave"
