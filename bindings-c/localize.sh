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
"${AR:-ar}" crs "$out" "$work/fidibus.o"
