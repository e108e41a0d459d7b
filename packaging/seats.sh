#!/usr/bin/env bash
# Packs clients/seats with the modules of web/ that it needs, as npm does it.
#
# usage: packaging/seats.sh DIR      makes DIR/boxoffice-seats-VERSION.tgz
# COMPRESS, SOURCE_DATE_EPOCH: as packaging/build.sh has them.
set -euo pipefail
out=$(realpath "${1:?a directory for the package}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=$work/package
install -d "$package"
install -m 0644 clients/seats/{README.md,index.d.ts,index.js} LICENSE-MIT LICENSE-APACHE "$package/"
sed "s/\"version\": \".*\"/\"version\": \"$version\"/" clients/seats/package.json >"$package/package.json"
chmod 0644 "$package/package.json"

# What it imports, and what that imports.
queue=(seats.js)
while ((${#queue[@]} > 0)); do
    file=${queue[0]}
    queue=("${queue[@]:1}")
    [[ ! -e $package/web/$file ]] || continue
    install -D -m 0644 "web/$file" "$package/web/$file"
    mapfile -t imported < <(grep -oE '(from |import\()"\./[^"]+"' "web/$file" | sed 's/.*"\.\/\(.*\)"/\1/')
    queue+=("${imported[@]}")
done

find "$package" -type d -exec chmod 0755 {} +
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" --directory="$work" --create package |
    gzip --no-name "${COMPRESS:--9}" >"$out/boxoffice-seats-$version.tgz"
