#!/usr/bin/env bash
# Restores a backup of backup.sh, or any plain dump: restore.sh FILE.sql.gz|FILE.sql
#
# The server has to be stopped: it would write what it has in memory on top. Clients that are still open merge what
# they have into the restored documents when they come back; so do updates that wait in the spool. To make them go
# back as well, close them, and move the state directory away.
#
#   DATABASE_URL or ENV_FILE, as in backup.sh     HEALTH_URL   how to see that the server is stopped
#   FIDIBUS (fidibus)                             what verifies the result; skipped where it is not found
set -euo pipefail

file="${1:?usage: restore.sh FILE.sql.gz|FILE.sql}"
[ -r "$file" ] || { echo "restore: $file cannot be read" >&2; exit 2; }
env_file="${ENV_FILE:-/var/www/canvas-A-I-O/.env}"
if [ -z "${DATABASE_URL:-}" ]; then
    DATABASE_URL="$(sed -n 's/^\(export \)\?DATABASE_URL=//p' "$env_file" | tail -n 1 | sed 's/^["'\'']//; s/["'\'']$//')"
fi
[ -n "$DATABASE_URL" ] || { echo "restore: DATABASE_URL is neither set nor in $env_file" >&2; exit 2; }
export DATABASE_URL

if curl --silent --max-time 2 --output /dev/null "${HEALTH_URL:-http://127.0.0.1:3002/health}"; then
    echo "restore: the server runs; stop it first: pm2 stop canvas-ws" >&2
    exit 1
fi

case "$file" in
*.gz)
    # Before anything is touched: a dump that ends early must not look like a whole one.
    gzip --test "$file" || exit 1
    read_dump=(gzip --decompress --stdout)
    ;;
*) read_dump=(cat) ;;
esac
# All of it or nothing.
"${read_dump[@]}" "$file" | psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --single-transaction --output /dev/null "$DATABASE_URL"
echo "restored $file"

if command -v "${FIDIBUS:-fidibus}" >/dev/null; then
    "${FIDIBUS:-fidibus}" migrate
    "${FIDIBUS:-fidibus}" verify
fi
