#!/usr/bin/env bash
# localize.sh IN.a OUT.a: copies a static library with only fidibus_* left as global symbols.
#
# The archive holds all that the library is made of (Rust's runtime, SQLite); a host that links another SQLite
# would get whichever the linker finds first. So all objects become one, and its other symbols local.
set -euo pipefail

in="$(realpath "$1")"
out="$2"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${LD:-ld}" --relocatable --whole-archive "$in" -o "$work/fidibus.o"
"${OBJCOPY:-objcopy}" --wildcard --keep-global-symbol='fidibus_*' "$work/fidibus.o"
rm -f "$out"
# Without plugins: where clang is installed, its plugin for binutils aborts on objects of Rust's newer LLVM.
"${AR:-ar}" --plugin /dev/null crs "$out" "$work/fidibus.o"
