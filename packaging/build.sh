#!/usr/bin/env bash
# Packs programs that are built already into Debian packages.
#
#   packaging/build.sh PROFILE FOLDER [FLAG…]   PROFILE: release or dev; FOLDER: where the .deb files go; flags are cargo-deb's
#
# Build first: cargo build -p swift-s3-worker -p swift-s3-control -p swift-s3-shunt -p swift-s3-packaging --bins
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: packaging/build.sh PROFILE FOLDER [FLAG…]" >&2; exit 2; }
profile=$1 folder=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")"

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync/target}"
cargo_deb="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync/tools/bin/cargo-deb"
[ -x "$cargo_deb" ] || { echo "build.sh: $cargo_deb is missing: run scripts/setup.sh" >&2; exit 1; }

built="$CARGO_TARGET_DIR/$profile"
[ "$profile" != dev ] || built="$CARGO_TARGET_DIR/debug"
[ -x "$built/swift-s3-generate" ] || { echo "build.sh: $built/swift-s3-generate is missing: see the head of this file" >&2; exit 1; }

# What Cargo.toml takes beside the programs.
rm -rf "$built/packages"
"$built/swift-s3-generate" man "$built/packages/man"
gzip -9n "$built"/packages/man/*
"$built/swift-s3-generate" completions "$built/packages/completions"
/usr/bin/python3 ../shunt/wsgi/install.py "$built/packages/python"

gzip -9n <../CHANGELOG.md >"$built/packages/changelog.gz"

mkdir -p "$folder"
for variant in control sync shunt ctl; do
  "$cargo_deb" --manifest-path Cargo.toml --no-build --offline --profile "$profile" --variant "$variant" --output "$folder" "$@"
done
