#!/usr/bin/env bash
# Builds the programs of the version that is upgraded from, for the scenarios of upgrade and rollback: swift-s3-sync, swift-s3-shunt,
# swift-s3-control and swift-s3ctl of the commit or tag in tests/previous-version. Once; safe to run again.
#
#   scripts/previous-version.sh          builds them if they are not there, and says where they are
#
# They are kept in ${XDG_CACHE_HOME:-~/.cache}/swift-s3-sync/previous/COMMIT. A checkout that does not have the commit (a shallow clone, an
# unpacked archive) gets a note there instead, and the scenarios then use the present programs in both roles, and say so.
set -euo pipefail

ROOT="$(cd "$(dirname "$0")/.." && pwd)"
PROGRAMS=(swift-s3-sync swift-s3-shunt swift-s3-control swift-s3ctl)
COMMIT=$(head -n 1 "$ROOT/tests/previous-version")
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync"
FOLDER="$CACHE/previous/$COMMIT"
# The target folder of the checkout: what is built of other people's crates serves both versions.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"

say() { printf 'previous version: %s\n' "$*"; }

complete() {
  local program
  for program in "${PROGRAMS[@]}"; do [ -x "$FOLDER/$program" ] || return 1; done
}

if complete; then
  rm -f "$FOLDER/unavailable"
  exit 0
fi
mkdir -p "$FOLDER"
if ! reason=$(git -C "$ROOT" cat-file -e "$COMMIT^{commit}" 2>&1); then
  say "this checkout does not have the commit $COMMIT (${reason:-not there}); the scenarios of upgrades will use the present programs in both roles." >&2
  say "git fetch --unshallow, or a full clone, brings it" >&2
  printf '%s\n' "${reason:-the checkout does not have the commit}" >"$FOLDER/unavailable"
  exit 0
fi

say "building ${COMMIT:0:12} once, two to four minutes"
SOURCE="$FOLDER/source"
rm -rf "$SOURCE"
mkdir -p "$SOURCE"
trap 'rm -rf "$SOURCE"' EXIT
git -C "$ROOT" archive "$COMMIT" | tar -x -C "$SOURCE"
# The selection and the dev dependencies of `cargo build --workspace --all-targets`, so that features of shared crates are the same; --examples
# stands for these dependencies, and there are none to build.
bins=()
for program in "${PROGRAMS[@]}"; do bins+=(--bin "$program"); done
(cd "$SOURCE" && CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --workspace --test fuzz "${bins[@]}")
for program in "${PROGRAMS[@]}"; do
  # In one step, so that a killed run leaves nothing that looks whole.
  cp "$CARGO_TARGET_DIR/debug/$program" "$FOLDER/$program.new"
  mv "$FOLDER/$program.new" "$FOLDER/$program"
done
rm -f "$FOLDER/unavailable"
# The same names in the target folder are the present version's: whoever builds next must put them there anew.
for program in "${PROGRAMS[@]}"; do rm -f "$CARGO_TARGET_DIR/debug/$program"; done
say "in $FOLDER"
