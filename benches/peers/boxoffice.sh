#!/usr/bin/env bash
# The engine, embedded and over HTTP, and beside it the two ceilings: a bare append + fdatasync, and an actix-web JSON echo.
#
# Usage: boxoffice.sh SECONDS. Prints `name<TAB>operations/s<TAB>p50 ms<TAB>p99 ms`, one line for each line of the two
# benchmarks that has a rate.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=${1:-5}

lines() {
    sed -nE 's/^(.*[^ ]) +([0-9.]+)\/s +p50 +([0-9]+) us +p99 +([0-9]+) us.*/\1\t\2\t\3\t\4/p' |
        awk -F'\t' '{ printf "%s\t%s\t%.3f\t%.3f\n", $1, $2, $3 / 1000, $4 / 1000 }'
}

for part in rush burst selling sold-out; do
    cargo bench --quiet --no-default-features --bench engine -- "$seconds" "$part" 2>/dev/null | lines
done
cargo bench --quiet --bench http -- "$seconds" 2>/dev/null | lines
