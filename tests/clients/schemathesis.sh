#!/usr/bin/env bash
# Runs schemathesis, which nobody here wrote, against /openapi.json of a running server: all of its checks, as an admin
# and then as a buyer. schemathesis_seed.py makes things to work on first, since most made-up ids lead nowhere.
#
#   tests/clients/schemathesis.sh SERVER_BINARY [SCHEMATHESIS_BINARY] [more options for schemathesis ...]
#
# Needs python3. MAX_EXAMPLES (30) bounds the cases of one operation in a phase, MAX_SECONDS (60) each of the two runs,
# SEED (1) makes them repeatable. With STRICT=1, 400 is no answer to what the schema calls valid.
#
# The server gets a data directory of its own, which is removed at the end, and a port that is free.
set -euo pipefail

server=${1:?the path of the boxoffice-server binary}
schemathesis=${2:-schemathesis}
[[ $server == */* ]] && server=$(realpath "$server")
[[ $schemathesis == */* ]] && schemathesis=$(realpath --no-symlinks "$schemathesis")
shift "$(($# < 2 ? $# : 2))"

work=$(mktemp -d)
# There before the server has come to write into them.
touch "$work/server.out" "$work/server.log"
server_pid=
cleanup() {
    status=$?
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    if ((status != 0)); then
        echo "schemathesis.sh: the end of the server's log:" >&2
        grep -v ' INFO ' "$work/server.log" | tail -n 20 >&2 || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# What is off here would answer 429 or 403 to most of what schemathesis sends.
export BOXOFFICE_LIMITS_USER_REQUESTS_PER_SECOND=0
export BOXOFFICE_LIMITS_USER_OPEN_HOLDS=0
export BOXOFFICE_LIMITS_USER_IDEMPOTENCY_KEYS=10000000
export BOXOFFICE_WALLET_SELF_CHARGE=true
# As many receivers of events as are made first, on this machine: nothing is sent to whatever schemathesis thinks of.
export BOXOFFICE_WEBHOOKS_ALLOW_PRIVATE_ADDRESSES=true
export BOXOFFICE_WEBHOOKS_RETRY_SCHEDULE=10ms
export BOXOFFICE_LIMITS_SINKS=2

# Nobody listens there either: only what is reported is known of payments by providers.
cat >"$work/boxoffice.toml" <<'PROVIDERS'
[[payments.providers]]
name = "card"
kind = "reported"
[[payments.providers]]
name = "stripe"
kind = "stripe"
secret_key = "sk_test_1"
webhook_secrets = ["whsec_1"]
url = "http://127.0.0.1:9"
[[payments.providers]]
name = "toss"
kind = "toss"
secret_key = "test_sk_1"
url = "http://127.0.0.1:9"
PROVIDERS
export BOXOFFICE_CONFIG=$work/boxoffice.toml

"$server" --data "$work/data" --listen 127.0.0.1:0 --ops-listen off --demo >"$work/server.out" 2>"$work/server.log" &
server_pid=$!

url=
for _ in $(seq 300); do
    url=$(sed -n 's/^listening on //p' "$work/server.out")
    [[ -n $url ]] && break
    kill -0 "$server_pid" 2>/dev/null || { echo "schemathesis.sh: the server did not start" >&2; exit 1; }
    sleep 0.1
done
[[ -n $url ]] || { echo "schemathesis.sh: the server did not say where it listens" >&2; exit 1; }

admin=$("$server" token --data "$work/data" --user schemathesis-admin --role admin)
buyer=$("$server" token --data "$work/data" --user schemathesis-buyer)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python3 "$here/schemathesis_seed.py" "$url" "$admin" "$buyer" >"$work/schemathesis.toml"

run() {
    local name=$1 token=$2
    shift 2
    echo "schemathesis.sh: as $name, seed ${SEED:-1}"
    # In a folder of its own: it leaves examples behind. All checks are on unless the configuration says otherwise.
    (cd "$work" && "$schemathesis" --config-file schemathesis.toml run "$url/openapi.json" \
        --header "Authorization: Bearer $token" \
        --phases examples,coverage,fuzzing,stateful \
        --max-examples "${MAX_EXAMPLES:-30}" \
        --max-time "${MAX_SECONDS:-60}" \
        --seed "${SEED:-1}" \
        --workers 1 \
        --continue-on-failure \
        --request-timeout 10 \
        "$@")
}

failed=0
run admin "$admin" "$@" || failed=1
run buyer "$buyer" "$@" || failed=1

# It must have lived through all of it, and must end as it should.
kill -0 "$server_pid" 2>/dev/null || { echo "schemathesis.sh: the server died" >&2; exit 1; }
kill -TERM "$server_pid"
wait "$server_pid" || { echo "schemathesis.sh: the server ended with an error" >&2; failed=1; }
server_pid=
"$server" verify --data "$work/data" || failed=1
exit "$failed"
