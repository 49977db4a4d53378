#!/usr/bin/env bash
# Daily backup for cron: 0 2 * * * /usr/local/bin/canvas-ws-backup.sh
#
# The database is everything: documents, their log, whatever else the app keeps in it. While the server runs and the
# database is up, nothing durable is anywhere else. The dump replaces what is there when it is restored.
#
#   DATABASE_URL or ENV_FILE (/var/www/canvas-A-I-O/.env)   what to dump
#   BACKUP_DIR (/backup/canvas-ws), KEEP_DAYS (7)           where to, for how long
set -euo pipefail
umask 077

backup_dir="${BACKUP_DIR:-/backup/canvas-ws}"
keep_days="${KEEP_DAYS:-7}"
env_file="${ENV_FILE:-/var/www/canvas-A-I-O/.env}"
if [ -z "${DATABASE_URL:-}" ]; then
    DATABASE_URL="$(sed -n 's/^\(export \)\?DATABASE_URL=//p' "$env_file" | tail -n 1 | sed 's/^["'\'']//; s/["'\'']$//')"
fi
[ -n "$DATABASE_URL" ] || { echo "backup: DATABASE_URL is neither set nor in $env_file" >&2; exit 2; }

mkdir -p "$backup_dir"
file="$backup_dir/db-$(date +%Y%m%d-%H%M%S).sql.gz"
# Only a whole dump gets the name of one.
trap 'rm -f "$file.part"' EXIT
pg_dump --clean --if-exists --no-owner --no-privileges "$DATABASE_URL" | gzip >"$file.part"
gzip --test "$file.part"
mv "$file.part" "$file"

find "$backup_dir" -maxdepth 1 -name 'db-*.sql.gz' -mtime +"$keep_days" -delete
echo "$file"
