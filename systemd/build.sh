#!/usr/bin/env bash
# build.sh [ARGUMENT]...
#
# cargo build --release of all programs that are installed. They are the same wherever this directory, the
# target directory and cargo's are. Flags of the environment do not count. ARGUMENTs are cargo's.
set -euo pipefail
cd "$(dirname "$0")/.."

crates=${CARGO_HOME:-$HOME/.cargo}/registry/src
printf -v CARGO_ENCODED_RUSTFLAGS '%s\x1f' \
  "--remap-path-prefix=$PWD=." "--remap-path-prefix=${CARGO_TARGET_DIR:-$PWD/target}=target" "--remap-path-prefix=$crates=crates"
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
# Always the same packages, since features of dependencies are those that any of them asks for.
exec cargo build --release --package virtlogd --package virtlockd --package virtfdhold "$@"
