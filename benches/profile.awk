# Sums perf's lines (share, thread, program, kind, symbol) by thread and part, in microseconds per event. Parts below a
# tenth of one are omitted.
function part(program, kind, symbol) {
    if (kind == "[k]") {
        if (symbol ~ /tcp|sock|inet|skb|unix_|net_|ip_|loopback|napi|__dev|writev|recv|iov|_copy|copy_user/) return "kernel: sockets"
        if (symbol ~ /ext4|jbd|blk|submit|virtio|fsync|folio|page|filemap|writeback|pwrite|xas_|bio|iomap/) return "kernel: file"
        return "kernel: scheduling, interrupts and the rest"
    }
    if (symbol ~ /sha2|sha256|hmac|md32/) return "hashing"
    if (symbol ~ /ZSTD|HUF_|FSE_|HIST_|zstd/) return "zstd"
    if (symbol ~ /rjem|jemalloc|arena_|tcache|extent_|emap_|edata_|pthread_mutex/) return "allocator"
    if (symbol ~ /memmove|memcpy|memset|memcmp|bcmp/) return "copying"
    if (symbol ~ /redb/) return "redb"
    if (symbol ~ /stormhook_store|bincode|crc32/) return "store"
    if (symbol ~ /stormhook_daemon::(http|app)|serde_json|axum|matchit|tower/) return "accepting events (JSON, routes)"
    if (symbol ~ /stormhook_engine::(dispatch|payload|outcome|retry)|stormhook_daemon::(deliver|target|headers)|stormhook_verifier|base64/) return "attempts"
    if (symbol ~ /stormhook_engine::schedule/) return "schedule"
    if (symbol ~ /hyper|httparse|http::|http_body|httpdate/) return "HTTP"
    if (symbol ~ /tokio|mio|std::sync|parking_lot|futures/) return "tasks and timers"
    if (program ~ /vdso/ || symbol ~ /clock_gettime|Timespec|Instant|std::time|time::/) return "clock"
    return "the rest"
}
match($0, /^ *[0-9.]+%/) {
    share = substr($0, RSTART, RLENGTH - 1) + 0
    thread = $2
    program = $3
    kind = $4
    symbol = $0
    sub(/^.*\[[k.]\] +/, "", symbol)
    if (thread == "tokio-rt-worker") thread = "serving and delivering"
    else if (thread != "writer") thread = "others"
    sum[thread "|" part(program, kind, symbol)] += share
    all[thread] += share
    total += share
}
END {
    if (!total) exit 1
    for (thread in all) printf "| %s | **all** | %.1f |\n", thread, all[thread] / total * cpu_us
    for (key in sum) {
        us = sum[key] / total * cpu_us
        split(key, names, "|")
        if (us >= 0.1) printf "| %s | %s | %.1f |\n", names[1], names[2], us
    }
}
