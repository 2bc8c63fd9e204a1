#!/usr/bin/env bash
# Builds the static binary that the image and CI use into deploy/bin/switchyard, where the Dockerfile's target
# `prebuilt` takes it from.
#   deploy/build-static.sh [cargo build options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target="$(uname -m)-unknown-linux-gnu"
# Naming the target keeps the flag away from build scripts and proc macros, which cannot be static.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" cargo build --release --locked --target "$target" --bin switchyard "$@" >&2

binary="${CARGO_TARGET_DIR:-target}/$target/release/switchyard"
# A static-pie has no interpreter: nothing but the file itself is needed to start it.
if readelf --program-headers "$binary" 2>/dev/null | grep -q INTERP; then
    echo "deploy/build-static.sh: $binary asks for a dynamic loader; it would not start FROM scratch" >&2
    exit 1
fi
mkdir -p deploy/bin
# Under another name first: a running copy is replaced, not written into.
cp "$binary" deploy/bin/.switchyard
mv deploy/bin/.switchyard deploy/bin/switchyard
echo "deploy/bin/switchyard: $(stat --format %s deploy/bin/switchyard) bytes, static"
