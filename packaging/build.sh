#!/usr/bin/env bash
# Makes in dist/ what sellers get: an archive and a deb with both programs, the map for npm, what the image is built of, and checksums.
#
# usage: packaging/build.sh
# BINARIES=DIR: has boxoffice-server and boxoffice-loadtest that have been built; without it they are built, which takes many
#   minutes: static with musl if rustc has that target and musl-gcc is there, else static with glibc.
# OUT=DIR: where to [default: dist].
# COMPRESS=-9: how hard gzip and xz try; DEB_COMPRESS=xz: with what the deb is packed.
# The same source and tools make the same bytes: times are those of the commit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${OUT:-dist}
compress=${COMPRESS:--9}
programs=(boxoffice-server boxoffice-loadtest)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

build() {
    local musl=x86_64-unknown-linux-musl gnu=x86_64-unknown-linux-gnu target
    if compgen -G "$(rustc --print target-libdir --target $musl)/libstd-*.rlib" >/dev/null && command -v musl-gcc >/dev/null; then
        target=$musl
        export CC_x86_64_unknown_linux_musl=musl-gcc CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=musl-gcc
    else
        target=$gnu
        export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static"
        echo "packaging/build.sh: there is no musl for Rust here: static with glibc" >&2
    fi
    BOXOFFICE_COMMIT=$(git rev-parse HEAD) cargo build --locked --profile dist --target "$target" --features kafka "${programs[@]/#/--bin=}"
    binaries=${CARGO_TARGET_DIR:-target}/$target/dist
}

binaries=${BINARIES:-}
[[ -n $binaries ]] || build
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install -d "$work/bin"
for program in "${programs[@]}"; do
    # Names stay, for the trace of a panic; lines of the source are not worth their size.
    strip --strip-debug -o "$work/bin/$program" "$binaries/$program"
    chmod 0755 "$work/bin/$program"
done

# What it needs of a system is read off the program, not believed.
kind=x86_64-unknown-linux-musl
depends="ca-certificates, passwd"
if readelf --wide --program-headers "$work/bin/boxoffice-server" | grep -q INTERP; then
    kind=x86_64-unknown-linux-gnu-dynamic
    glibc=$(readelf --wide --version-info "$work/bin/boxoffice-server" | grep -o 'GLIBC_[0-9.]*' | sort --version-sort --unique | tail -n 1)
    depends="libc6 (>= ${glibc#GLIBC_}), libgcc-s1, $depends"
elif [[ $binaries == *-linux-gnu/* ]]; then
    kind=x86_64-unknown-linux-gnu-static
fi

# Of a tree that is to be packed: files by name, owners and times that are the same everywhere.
pack() { # FILE DIR ENTRY...
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --directory="$2" --create "${@:3}" |
        gzip --no-name "$compress" >"$1"
}

archive() {
    local name=boxoffice-$version-$kind
    install -d "$work/$name"
    install -m 0755 "$work/bin/"* "$work/$name/"
    install -m 0644 LICENSE-MIT LICENSE-APACHE README.md CHANGELOG.md packaging/debian/boxoffice.toml "$work/$name/"
    pack "$out/$name.tar.gz" "$work" "$name"
    files+=("$name.tar.gz")
}

deb() {
    local root=$work/deb name=boxoffice_$version-1_amd64.deb
    install -d "$root/DEBIAN" "$root"/etc/{boxoffice,default} "$root"/usr/{bin,lib/boxoffice,lib/systemd/system,share/doc/boxoffice/examples}
    install -m 0755 "$work/bin/"* "$root/usr/bin/"
    install -m 0640 packaging/debian/boxoffice.toml "$root/etc/boxoffice/"
    install -m 0644 packaging/debian/boxoffice.default "$root/etc/default/boxoffice"
    install -m 0644 packaging/debian/boxoffice{.service,-backup.service,-backup.timer} "$root/usr/lib/systemd/system/"
    install -m 0755 packaging/debian/backup "$root/usr/lib/boxoffice/"
    local doc=$root/usr/share/doc/boxoffice
    install -m 0644 packaging/{nginx.conf,prometheus.yml,grafana/*.json} docs/prometheus-alerts.yml assets/theatre.json "$doc/examples/"
    install -m 0644 packaging/README.md "$doc/"
    cat LICENSE-MIT - LICENSE-APACHE <<<$'\nor, as you like:\n' >"$doc/copyright"
    chmod 0644 "$doc/copyright"
    install -m 0755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN/"
    (umask 022 && printf '%s\n' /etc/boxoffice/boxoffice.toml /etc/default/boxoffice >"$root/DEBIAN/conffiles")
    local size
    size=$(du --summarize --apparent-size --block-size=1K "$root" | cut -f 1)
    sed "s/@version@/$version/; s/@size@/$size/; s/@depends@/$depends/" packaging/debian/control >"$root/DEBIAN/control"
    (cd "$root" && find etc usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    chmod 0644 "$root"/DEBIAN/{control,md5sums}
    dpkg-deb --root-owner-group "-Z${DEB_COMPRESS:-xz}" "-z${compress#-}" --build "$root" "$out/$name" >/dev/null
    files+=("$name")
}

# `docker build` needs no more than this directory.
image() {
    local context=$out/image
    rm -rf "$context"
    install -d "$context/data"
    install -m 0755 "$work/bin/boxoffice-server" "$context/"
    install -m 0644 packaging/Dockerfile "$context/"
}

# The map for other sites.
seats() {
    COMPRESS=$compress packaging/seats.sh "$out"
    files+=("boxoffice-seats-$version.tgz")
}

files=()
archive
deb
seats
image
(cd "$out" && sha256sum "${files[@]}" >SHA256SUMS)
[[ $kind != *-dynamic ]] || echo "packaging/build.sh: these programs are not static: no image of them runs" >&2
(cd "$out" && du --apparent-size --human-readable "${files[@]}" image/boxoffice-server)
