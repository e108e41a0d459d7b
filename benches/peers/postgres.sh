#!/usr/bin/env bash
# PostgreSQL with synchronous commit: the best transactions that we can write for it, one function call each.
#
# Usage: postgres.sh SECONDS. Prints `name<TAB>operations/s<TAB>p50 ms<TAB>p99 ms`. Over its Unix socket, 64 connections, prepared
# statements, by pgbench.
#   hold      locks two neighbouring seats in order, holds them if both are free, writes a reservation down.
#   purchase  the same, and takes their price from the wallet and writes a payment down, all in one transaction.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
seconds=${1:-5}
install postgresql

dir=$(scratch postgres)
bin=$(dirname "$(find /usr/lib/postgresql -name initdb | sort -V | tail -1)")
# It refuses to be run by root.
as_postgres() { if [[ $(id -u) == 0 ]]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi; }
if [[ $(id -u) == 0 ]]; then
    chown postgres "$dir"
    # The way there may be closed to others.
    parent=$dir
    while parent=$(dirname "$parent") && [[ $parent != / ]]; do chmod o+x "$parent"; done
fi
as_postgres "$bin/initdb" -D "$dir/data" -U postgres --auth=trust >/dev/null
as_postgres "$bin/pg_ctl" -D "$dir/data" -w -l "$dir/data/log" start \
    -o "-c listen_addresses='' -k '$dir' -c synchronous_commit=on -c fsync=on -c wal_sync_method=fdatasync -c shared_buffers=1GB
        -c max_wal_size=8GB -c checkpoint_timeout=30min -c autovacuum=on" >/dev/null
trap 'as_postgres "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT

psql -q -h "$dir" -U postgres <<'SQL'
CREATE TABLE seats (id int PRIMARY KEY, owner int, until timestamptz, sold boolean NOT NULL DEFAULT false) WITH (fillfactor = 50);
CREATE TABLE wallets (id int PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)) WITH (fillfactor = 50);
CREATE TABLE reservations (id bigserial PRIMARY KEY, owner int NOT NULL, seats int[] NOT NULL, at timestamptz NOT NULL);
CREATE TABLE payments (id bigserial PRIMARY KEY, reservation bigint NOT NULL, amount bigint NOT NULL, at timestamptz NOT NULL);
INSERT INTO seats (id) SELECT generate_series(0, 59999);
INSERT INTO wallets SELECT generate_series(0, 9999), 1000000000000;

-- Seats are free again after 50 ms, so that the benchmark does not run out of them.
CREATE FUNCTION hold(buyer int, first int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE made bigint; free int;
BEGIN
    SELECT count(*) INTO free FROM (SELECT 1 FROM seats WHERE id IN (first, first + 1)
        AND (until IS NULL OR until < clock_timestamp()) ORDER BY id FOR UPDATE SKIP LOCKED) AS locked;
    IF free < 2 THEN RETURN NULL; END IF;
    UPDATE seats SET owner = buyer, until = clock_timestamp() + interval '50 ms' WHERE id IN (first, first + 1);
    INSERT INTO reservations (owner, seats, at) VALUES (buyer, ARRAY[first, first + 1], now()) RETURNING id INTO made;
    RETURN made;
END $$;

CREATE FUNCTION purchase(buyer int, first int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE made bigint; paid bigint;
BEGIN
    made := hold(buyer, first);
    IF made IS NULL THEN RETURN NULL; END IF;
    UPDATE wallets SET balance = balance - 200 WHERE id = buyer AND balance >= 200;
    IF NOT FOUND THEN RAISE EXCEPTION 'insufficient points'; END IF;
    INSERT INTO payments (reservation, amount, at) VALUES (made, 200, now()) RETURNING id INTO paid;
    RETURN paid;
END $$;
SQL

measure() { # NAME FUNCTION
    local script=$dir/$2.sql log=$dir/log-$2
    printf '\\set buyer random(0, 9999)\n\\set seat random(0, 29999) * 2\nSELECT %s(:buyer, :seat);\n' "$2" >"$script"
    pgbench -h "$dir" -U postgres -n -c 64 -j 2 -M prepared -T "$seconds" -f "$script" --log --log-prefix "$log" postgres >"$dir/out"
    local rate
    rate=$(awk '/^tps/ { print $3 }' "$dir/out")
    # The third column is the time of a transaction in microseconds.
    cat "$log".* | awk '{ print $3 }' | sort -n | awk -v name="$1" -v rate="$rate" '
        { times[NR] = $1 }
        END { printf "%s\t%.0f\t%.3f\t%.3f\n", name, rate, times[int(NR * 0.5) + 1] / 1000, times[int(NR * 0.99) + 1] / 1000 }'
}

measure "PostgreSQL: hold" hold
measure "PostgreSQL: hold + pay" purchase
