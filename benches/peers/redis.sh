#!/usr/bin/env bash
# Redis with every write synced (`appendfsync always`): what many would do, a key a seat.
#
# Usage: redis.sh SECONDS. Prints `name<TAB>operations/s<TAB>p50 ms<TAB>p99 ms`. Over its Unix socket, 64 connections.
#   hold      `SET seat NX EX 300`: one seat.
#   purchase  a Lua script: takes one seat if it is free, takes its price from the wallet, writes a payment down.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
seconds=${1:-5}
install redis-server redis-tools

dir=$(scratch redis)
socket=$dir/redis.sock
redis-server --port 0 --unixsocket "$socket" --dir "$dir" --appendonly yes --appendfsync always --save '' \
    --auto-aof-rewrite-percentage 0 --daemonize no >"$dir/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
until [[ $(redis-cli -s "$socket" ping 2>/dev/null) == PONG ]]; do sleep 0.1; done

purchase=$(redis-cli -s "$socket" script load "
    if not redis.call('SET', KEYS[1], KEYS[2], 'NX') then return 0 end
    local balance = tonumber(redis.call('GET', KEYS[2]) or 1000000000)
    if balance < 100 then redis.call('DEL', KEYS[1]); return -1 end
    redis.call('SET', KEYS[2], balance - 100)
    redis.call('RPUSH', KEYS[3], KEYS[1])
    return 1")

# So many requests as the last run says would take the time: redis-benchmark counts requests, not seconds.
measure() { # NAME COMMAND...
    local name=$1 csv rate=20000 requests
    shift
    for requests in 20000 timed; do
        [[ $requests == timed ]] && requests=$(awk -v rate="$rate" -v seconds="$seconds" 'BEGIN { print int(rate * seconds) }')
        csv=$(redis-benchmark -s "$socket" -c 64 -n "$requests" -r 1000000000 --csv "$@" | tail -1)
        # "test","rps","avg","min","p50","p95","p99","max"
        rate=$(cut -d, -f2 <<<"$csv" | tr -d '"')
    done
    awk -F, -v name="$name" '{ gsub(/"/, ""); printf "%s\t%s\t%s\t%s\n", name, $(NF-6), $(NF-3), $(NF-1) }' <<<"$csv"
}

measure "Redis: hold" SET seat:__rand_int__ user NX EX 300
measure "Redis: hold + pay (Lua)" EVALSHA "$purchase" 3 seat:__rand_int__ wallet:__rand_int__ payments:__rand_int__
