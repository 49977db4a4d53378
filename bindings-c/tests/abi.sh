#!/usr/bin/env bash
# abi.sh LIBRARY HEADER: prints what a compiled host relies on: exported symbols, numbers of enums, sizes and offsets
# of structs, and the soname. test.sh compares it with abi.txt; a difference there breaks hosts, unless it only adds.
set -euo pipefail

library="$1"
header="$2"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

echo "soname $(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')"
nm --dynamic --defined-only "$library" | awk '{ print "symbol " $3 }' | LC_ALL=C sort

# A program that prints every constant and every field of the header.
{
    echo '#include <stdio.h>'
    echo '#include <stddef.h>'
    echo '#include "fidibus.h"'
    echo 'int main(void) {'
    sed -n 's/^ *\(FIDIBUS_[A-Z0-9_]*\) = [0-9]*,.*/    printf("enum \1 %d\\n", (int)\1);/p' "$header"
    awk '
        /^typedef struct fidibus_[a-z]+ \{/ { name = $3; print "    printf(\"struct " name " %zu\\n\", sizeof(" name "));" }
        name != "" && /^    [a-z].*;/ {
            field = $NF; gsub(/[*;]/, "", field)
            print "    printf(\"field " name "." field " %zu\\n\", offsetof(" name ", " field "));"
        }
        /^\}/ { name = "" }
    ' "$header"
    echo '    return 0;'
    echo '}'
} >"$work/print.c"
cc -I"$(dirname "$header")" "$work/print.c" -o "$work/print"
"$work/print"
