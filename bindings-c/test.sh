#!/usr/bin/env bash
# Everything that shows the C library: it is built and installed as a user would, then C programs run against it
# bare, under AddressSanitizer with UBSan, under valgrind and under ThreadSanitizer, some of them on a PostgreSQL of
# their own; the header is compiled in all dialects, the ABI is compared, and the hosts in examples/ serve real providers.
#
#   bindings-c/test.sh [STEP...]   all steps, or some of: header abi bare asan valgrind tsan link hosts
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$here")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
work="$CARGO_TARGET_DIR/c-tests"
prefix="$work/prefix"
include="$prefix/include"
steps=" ${*:-header abi bare asan valgrind tsan link hosts} "
programs="config connection document hooks store server postgres threads abuse nulls"
warnings="-Wall -Wextra -Wpedantic -Werror"

wanted() { [[ "$steps" == *" $1 "* ]]; }
say() { echo "test.sh: $*"; }

"$root/scripts/tools.sh" clang valgrind postgres
for package in libwebsockets-dev libwslay-dev nettle-dev pkg-config cmake g++; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="${missing:-} $package"
done
if [ -n "${missing:-}" ]; then
    say "installing$missing"
    [ "$(id -u)" = 0 ] || { say "install$missing, or run this as root"; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # a list of names
    apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1 || {
        # A fresh machine has no package lists.
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends $missing >/dev/null
    }
fi

say "building and installing"
mkdir -p "$work"
make --silent -C "$here" install PROFILE=dev PREFIX="$prefix"
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
export LD_LIBRARY_PATH="$prefix/lib"
python3 "$here/tests/nulls.py" "$include/fidibus.h" "$here"/tests/c/*.[ch] >"$work/nulls.c"

# A database for those steps that run all programs.
if wanted bare || wanted asan || wanted valgrind; then
    cluster="$(mktemp -d)"
    trap '"$here/tests/postgres.sh" stop "$cluster" || true; rm -rf "$cluster"' EXIT
    FIDIBUS_TEST_POSTGRES="$("$here/tests/postgres.sh" start "$cluster")"
    export FIDIBUS_TEST_POSTGRES
fi

# compile COMPILER PROGRAM OUTPUT FLAGS...
compile() {
    local compiler="$1" program="$2" out="$3"
    shift 3
    local source="$here/tests/c/$program.c"
    [ "$program" = nulls ] && source="$work/nulls.c"
    "$compiler" -std=gnu11 -g -Wall -Wextra -Werror "$@" -I"$here/tests/c" "$source" -o "$out" \
        $(pkg-config --cflags --libs fidibus) -lpthread
}

# run_all KIND WRAPPER... : runs the compiled programs, shows what one says only where it fails.
run_all() {
    local kind="$1" program
    shift
    for program in $chosen; do
        if ! "$@" "$work/$program.$kind" >"$work/$program.$kind.log" 2>&1; then
            cat "$work/$program.$kind.log"
            say "FAILED: $program, $kind"
            exit 1
        fi
    done
    say "$kind: $(cat $(printf "$work/%s.$kind.log " $chosen) | grep -c '^  ok') tests of $(wc -w <<<"$chosen") programs"
}

if wanted header; then
    for compiler in gcc clang; do
        for standard in c99 c11 c17; do
            echo '#include "fidibus.h"' | "$compiler" -std=$standard $warnings -I"$include" -x c -fsyntax-only -
        done
    done
    for compiler in g++ clang++; do
        for standard in c++17 c++20; do
            printf '#include "fidibus.h"\n#include "fidibus.hpp"\n' |
                "$compiler" -std=$standard $warnings -I"$include" -x c++ -fsyntax-only -
        done
    done
    say "header: gcc and clang, C99 to C17, C++17 and C++20, no warning"
fi

if wanted abi; then
    "$here/tests/abi.sh" "$prefix/lib/libfidibus.so" "$include/fidibus.h" >"$work/abi.txt"
    diff -u "$here/tests/abi.txt" "$work/abi.txt" || {
        say "FAILED: the ABI changed. What only adds: cp $work/abi.txt $here/tests/abi.txt. Else the soname has to change."
        exit 1
    }
    # Whatever else is exported could clash with a host's own.
    if nm --dynamic --defined-only "$prefix/lib/libfidibus.so" | awk '{ print $3 }' | grep -v '^fidibus_'; then
        say "FAILED: the shared library exports more than fidibus_*"
        exit 1
    fi
    if nm --plugin /dev/null --extern-only --defined-only "$prefix/lib/libfidibus.a" 2>/dev/null | awk 'NF == 3 { print $3 }' | grep -v '^fidibus_'; then
        say "FAILED: the static library exports more than fidibus_*"
        exit 1
    fi
    say "abi: $(wc -l <"$work/abi.txt") lines as committed, only fidibus_* exported"
fi

if wanted bare; then
    chosen="$programs"
    for program in $chosen; do compile gcc "$program" "$work/$program.bare" -O2; done
    run_all bare timeout 120
fi

if wanted asan; then
    # Forked children abort on purpose in abuse, and take no leak check.
    chosen="${programs/abuse /}"
    for program in $chosen; do
        compile gcc "$program" "$work/$program.asan" -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    done
    run_all asan timeout 300
fi

if wanted valgrind; then
    chosen="${programs/abuse /}"
    for program in $chosen; do compile gcc "$program" "$work/$program.valgrind"; done
    # Threads that the runtime gives back only at exit are "possibly" lost to valgrind; definite losses are ours.
    PATIENCE=20 run_all valgrind timeout 900 valgrind --quiet --error-exitcode=9 --leak-check=full \
        --errors-for-leak-kinds=definite,indirect --show-leak-kinds=definite,indirect --fair-sched=yes \
        --suppressions="$here/tests/valgrind.supp"
fi

if wanted tsan; then
    chosen=threads
    compile clang threads "$work/threads.tsan" -fsanitize=thread
    # The library is not instrumented, so what happens inside of it is not seen; what the host's threads do is.
    TSAN_OPTIONS="halt_on_error=1 suppressions=$here/tests/tsan.supp" run_all tsan timeout 300
fi

if wanted link; then
    # Static, through pkg-config; and through CMake, both ways.
    gcc -std=gnu11 -Wall -I"$here/tests/c" "$here/tests/c/document.c" -o "$work/static" $(pkg-config --cflags fidibus) \
        "$prefix/lib/libfidibus.a" $(pkg-config --static --libs-only-l fidibus | sed 's/-lfidibus//')
    timeout 60 "$work/static" >/dev/null
    cat >"$work/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(Fidibus 0.1 REQUIRED)
foreach(kind fidibus static)
  add_executable(user_\${kind} $here/tests/c/config.c)
  target_link_libraries(user_\${kind} PRIVATE Fidibus::\${kind} Threads::Threads)
endforeach()
END
    rm -rf "$work/cmake"
    cmake -S "$work" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
    cmake --build "$work/cmake" >"$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
    for kind in fidibus static; do timeout 60 "$work/cmake/user_$kind" >/dev/null; done
    say "link: shared and static, with pkg-config and CMake"
fi

if wanted hosts; then
    "$root/scripts/tools.sh" npm_ci "$root/server/tests/provider"
    mkdir -p "$work/c" "$work/cpp"
    # With sanitizers, so that the examples are shown to be clean as well.
    sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    make --silent --always-make -C "$root/examples/c-epoll" OUT="$work/c" CFLAGS="-g $sanitize"
    make --silent --always-make -C "$root/examples/cpp" OUT="$work/cpp" CXXFLAGS="-g $sanitize"
    (cd "$here/tests/provider" && PATH="$root/.tools/node22/bin:$PATH" HOSTS="C=$work/c/host,C++=$work/cpp/host" npm test --silent)
    say "hosts: both serve the providers of both dialects"
fi

say "all is well:$steps"
