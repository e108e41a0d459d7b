# What the peers' scripts share.

# Installs Debian packages that are not there.
install() { # PACKAGE...
    dpkg -s "$@" >/dev/null 2>&1 || {
        apt-get update -qq
        # Servers that start by themselves would take part in the measurement.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    } >&2
}

# A new directory on the disk that the engine's benchmarks use.
scratch() { # NAME
    local base
    base=${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../../target}/tmp
    mkdir -p "$base"
    realpath "$(mktemp -d "$base/peer-$1-XXXXXX")"
}
