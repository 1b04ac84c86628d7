#!/usr/bin/env bash
# Builds the programs of the version that is upgraded from, for the scenarios of upgrade and rollback: swift-s3-sync, swift-s3-shunt,
# swift-s3-control and swift-s3ctl of the commit or tag in tests/previous-version. Once; safe to run again.
#
#   scripts/previous-version.sh          builds them if they are not there, and says where they are
#
# They are kept in ${XDG_CACHE_HOME:-~/.cache}/swift-s3-sync/previous/COMMIT. A checkout that does not have the commit (a shallow clone)
# fetches it; one that cannot (an unpacked archive) makes this fail. SWIFT_S3_TESTS_ALLOW_NO_PREVIOUS=1 lets it pass, and the scenarios then use
# the present programs in both roles: that proves no upgrade.
set -euo pipefail

ROOT="$(cd "$(dirname "$0")/.." && pwd)"
PROGRAMS=(swift-s3-sync swift-s3-shunt swift-s3-control swift-s3ctl)
COMMIT=$(head -n 1 "$ROOT/tests/previous-version")
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/swift-s3-sync"
FOLDER="$CACHE/previous/$COMMIT"
# What the checkout has built of other people's crates serves both versions.
BUILT="${CARGO_TARGET_DIR:-$CACHE/target}/debug"

say() { printf 'previous version: %s\n' "$*"; }

complete() {
  local program
  for program in "${PROGRAMS[@]}"; do [ -x "$FOLDER/$program" ] || return 1; done
}

has_commit() { git -C "$ROOT" cat-file -e "$COMMIT^{commit}" 2>/dev/null; }

# A target folder of its own: in one that others build in, theirs could be taken for the previous version's programs. Files of deps/ are
# links, as no compiler writes into one that is there; what cargo notes is copied, and before them, so that nothing is noted that is not there.
seed() {
  local target=$1 kind
  [ -d "$BUILT/.fingerprint" ] || return 0
  mkdir -p "$target"
  for kind in .fingerprint build deps; do
    mkdir "$target/$kind"
    find "$BUILT/$kind" -mindepth 1 -maxdepth 1 ! -name '*swift[-_]s3*' -printf '%f\0' \
      | if [ "$kind" = deps ]; then
          grep -z -E '\.(rlib|rmeta|so|d)$' | (cd "$BUILT/deps" && xargs -0 -r cp --link --target-directory "$target/deps")
        else
          (cd "$BUILT/$kind" && xargs -0 -r cp --archive --target-directory "$target/$kind")
        fi
  done
}

mkdir -p "$FOLDER"
# One at a time; whoever waited finds what the other one has built.
exec 9>"$FOLDER.lock"
flock 9
complete && exit 0

if ! has_commit; then
  say "fetching ${COMMIT:0:12}"
  git -C "$ROOT" fetch --quiet --depth 1 origin "$COMMIT" || true
fi
if ! has_commit; then
  say "this checkout does not have the commit $COMMIT, and cannot fetch it from origin: git fetch --unshallow, or a full clone, brings it." >&2
  if [ "${SWIFT_S3_TESTS_ALLOW_NO_PREVIOUS:-}" = 1 ]; then
    say "the scenarios of upgrades will use the present programs in both roles, as SWIFT_S3_TESTS_ALLOW_NO_PREVIOUS allows" >&2
    exit 0
  fi
  say "without it no upgrade is tested; SWIFT_S3_TESTS_ALLOW_NO_PREVIOUS=1 allows that" >&2
  exit 1
fi

say "building ${COMMIT:0:12} once, two to four minutes"
SOURCE="$FOLDER/source"
TARGET="$FOLDER/target"
rm -rf "$SOURCE" "$TARGET"
mkdir -p "$SOURCE"
trap 'rm -rf "$SOURCE" "$TARGET"' EXIT
git -C "$ROOT" archive "$COMMIT" | tar -x -C "$SOURCE"
# Without it everything is built, which takes longer and is as good.
seed "$TARGET/debug" || { say "nothing of what is built can be used again" >&2; rm -rf "$TARGET"; }
# The selection and the dev dependencies of `cargo build --workspace --all-targets`, so that features of shared crates are the same; --test fuzz
# stands for these dependencies.
bins=()
for program in "${PROGRAMS[@]}"; do bins+=(--bin "$program"); done
(cd "$SOURCE" && CARGO_TARGET_DIR="$TARGET" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 cargo build --quiet --workspace --test fuzz "${bins[@]}" 9>&-)
for program in "${PROGRAMS[@]}"; do
  # In one step, so that a killed run leaves nothing that looks whole.
  cp "$TARGET/debug/$program" "$FOLDER/$program.new"
  mv "$FOLDER/$program.new" "$FOLDER/$program"
done
say "in $FOLDER"
