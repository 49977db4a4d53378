#!/usr/bin/env bash
# Builds the addon and the package and runs the suite: on ours, on stock Hocuspocus, and in short on Node 20 and 24.
set -euo pipefail
cd "$(dirname "$0")"

# better-sqlite3 is built for the Node that runs the tests, with its own headers.
export npm_config_nodedir="${npm_config_nodedir:-$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")}"
[ -d node_modules ] || npm ci --no-audit --no-fund
if [ "${FIDIBUS_ADDON:-debug}" = release ]; then npm run build; else npm run build:debug; fi
npm test
npm run test:stock
for major in 20 24; do
    node="$PWD/../.tools/node$major/bin/node"
    "$node" tests/smoke.mjs
    "$node" tests/smoke.cjs
done
