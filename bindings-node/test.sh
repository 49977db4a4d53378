#!/usr/bin/env bash
# Builds the addon and the package and runs the suite: on ours, on stock Hocuspocus, and once on Node 20.
set -euo pipefail
cd "$(dirname "$0")"

# better-sqlite3 is built for the Node that runs the tests, with its own headers.
export npm_config_nodedir="${npm_config_nodedir:-$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")}"
[ -d node_modules ] || npm ci --no-audit --no-fund
if [ "${FIDIBUS_ADDON:-debug}" = release ]; then npm run build; else npm run build:debug; fi
npm test
npm run test:stock
node20=${NODE20:-/usr/bin/node}
if [ -x "$node20" ]; then "$node20" tests/smoke.mjs && "$node20" tests/smoke.cjs; fi
