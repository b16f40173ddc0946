#!/usr/bin/env bash
# build-deb.sh [DIRECTORY]
#
# Builds the Debian packages virtlogd and virtlockd into DIRECTORY (target/packages), and prints their
# sizes, dependencies and checksums. cargo-deb is installed into the target directory if there is none,
# unoptimised, which is quicker. Two builds of one commit by one toolchain have the same content, wherever.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C

target=${CARGO_TARGET_DIR:-$PWD/target}
output=${1:-$target/packages}
generated=$target/release/package
cargo_deb_version=3.8.0

# Times of the files in the packages: the commit's, or that of the sources as they were unpacked.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat --format=%Y Cargo.lock)}
export SOURCE_DATE_EPOCH

install_cargo_deb() {
  PATH=$target/tools/bin:$PATH
  command -v cargo-deb >/dev/null ||
    cargo install --quiet --locked --debug --root "$target/tools" --target-dir "$target/tools/build" "cargo-deb@$cargo_deb_version"
}

# What the packages have beside the programs.
generate() {
  local name
  rm -rf "$generated"
  mkdir -p "$generated"
  cargo run --quiet --locked --package tests --bin manual -- "$generated"
  for name in virtlogd virtlockd; do
    systemd/drop-in.sh "systemd/$name.service" >"$generated/$name/virt-rs.conf"
    # All but the daemons' own, which stay libvirt's.
    mkdir "$generated/$name/units"
    cp "systemd/$name"-*.service "systemd/$name"-*.timer "$generated/$name/units/"
    copyright "$name" >"$generated/$name/copyright"
    gzip --best --no-name "$generated/$name"/*.[158]
    gzip --best --no-name <.github/CHANGELOG.md >"$generated/$name/CHANGELOG.md.gz"
    changelog "$name" | gzip --best --no-name >"$generated/$name/changelog.gz"
    mv "$generated/$name/$name.bash" "$generated/$name/$name"
    mv "$generated/$name/${name%d}ctl.bash" "$generated/$name/${name%d}ctl"
  done
}

copyright() {
  local line
  while IFS= read -r line; do
    case $line in
      @MIT@) sed 's/^$/./; s/^/ /' LICENSE-MIT ;;
      @CRATES@) crates "$1" ;;
      *) echo "$line" ;;
    esac
  done <virtlogd/debian/copyright
}

# The crates that are linked into a package's programs, less our own.
crates() {
  cargo tree --locked --package "$1" --edges normal,no-proc-macro --prefix none --format '{p}: {l}' |
    sed -n '/(.*)/!s/^/  /p' | sort -u
}

# The one in Debian's format, without which a package is none.
changelog() {
  local version maintainer
  version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
  maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' "$1/Cargo.toml")
  printf '%s (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n' "$1" "$version"
  printf ' -- %s  %s\n' "$maintainer" "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")"
}

mkdir -p "$output"
rm -f "$output"/virtlo*d_*.deb
systemd/build.sh --locked
install_cargo_deb
generate
for name in virtlogd virtlockd; do
  cargo deb --quiet --locked --no-build --no-strip --package "$name" --output "$output/"
done
for package in "$output"/virtlo*d_*.deb; do
  dpkg-deb --show --showformat '${Package} ${Version}: installed ${Installed-Size} KiB, needs ${Depends}\n' "$package"
done
(cd "$output" && du --bytes virtlo*d_*.deb && sha256sum virtlo*d_*.deb)
