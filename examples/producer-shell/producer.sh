#!/usr/bin/env bash
# Accepts an order and sends stormhook an event for it once the order is committed.
#
#   producer.sh ORDERS_FOLDER ORDER_ID AMOUNT
#
# The transaction here is a file: written under another name, flushed, then renamed, which either
# happens or doesn't. Put your database's COMMIT there. The order of the steps is what matters:
#
#   1. commit the order. If this fails, no event may be sent;
#   2. send the event with an idempotency key derived from the order;
#   3. record that it was sent.
#
# A crash between 1 and 3 leaves an order without its mark; the next run sends its event again.
# The key makes that harmless: stormhook answers 200 instead of 202 and delivers nothing twice.
set -euo pipefail

orders=${1:?the folder of orders} order=${2:?an order id} amount=${3:?an amount}
socket=${STORMHOOK_SOCKET:-/run/stormhook/stormhook.sock}
[[ $order =~ ^[A-Za-z0-9-]+$ && $amount =~ ^[0-9]+$ ]] || { echo "an id and a whole amount" >&2; exit 2; }

commit_order() {
    mkdir -p "$orders"
    printf '{"orderId":"%s","amount":%s}' "$order" "$amount" >"$orders/$order.new"
    sync "$orders/$order.new"
    mv "$orders/$order.new" "$orders/$order.json"
    sync "$orders"
}

# Sends the event of one committed order; 202 means new, 200 stored earlier, 503 retry later.
send_event() {
    local id=$1 event status tries
    event=$(printf '{"organizationId":"shop","type":"order.created","idempotencyKey":"order-%s-created","data":%s}' \
        "$id" "$(cat "$orders/$id.json")")
    for tries in 1 2 3 4 5; do
        status=$(curl --silent --show-error --unix-socket "$socket" --max-time 10 \
            --header 'content-type: application/json' --data-binary "$event" \
            --output "$orders/$id.answer" --write-out '%{http_code}' http://stormhook/v1/events) || status=000
        case $status in
            200 | 202) cat "$orders/$id.answer"; echo; return 0 ;;
            503 | 000) sleep "$tries" ;; # busy, or the daemon is restarting
            *) echo "order $id: $status $(cat "$orders/$id.answer")" >&2; return 1 ;;
        esac
    done
    echo "order $id: stormhook does not accept events now; run again later" >&2
    return 1
}

commit_order
for file in "$orders"/*.json; do
    id=$(basename "$file" .json)
    [[ -e $orders/$id.sent ]] && continue
    send_event "$id"
    rm -f "$orders/$id.answer"
    : >"$orders/$id.sent"
done
