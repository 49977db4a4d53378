#!/usr/bin/env bash
# Health check for cron: */5 * * * * /usr/local/bin/canvas-ws-healthcheck.sh
#
# Restarts the server only where that can help: when it does not answer at all. A 503 says that the database is away.
# The server then keeps what it is told in its spool and goes on by itself; restarting it would only throw out its
# users, every five minutes.
#
# Exit code: 0 healthy, 1 something is wrong, 2 it was restarted.
set -uo pipefail

url="${HEALTH_URL:-http://127.0.0.1:3002/health}"
restart="${RESTART_COMMAND:-pm2 restart canvas-ws}"
tries=3

say() {
    echo "$(date '+%Y-%m-%d %H:%M:%S') $*"
    logger -t canvas-ws-healthcheck -- "$*" 2>/dev/null || true
}

answer=""
for try in $(seq "$tries"); do
    # 000: no answer.
    answer="$(curl --silent --max-time 5 --output /dev/null --write-out '%{http_code}' "$url")"
    [ "$answer" = 000 ] || break
    [ "$try" = "$tries" ] || sleep "${RETRY_SECONDS:-5}"
done

case "$answer" in
200)
    exit 0
    ;;
000)
    say "no answer from $url after $tries tries, restarting: $restart"
    $restart || say "the restart failed"
    exit 2
    ;;
*)
    say "unhealthy, HTTP $answer: $(curl --silent --max-time 5 "$url" | head -c 500)"
    exit 1
    ;;
esac
