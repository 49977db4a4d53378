#!/usr/bin/env bash
# A PostgreSQL of the tests' own, with a password, on a free port of 127.0.0.1.
#
#   postgres.sh start DIRECTORY   makes it in an empty directory and prints its URL
#   postgres.sh stop DIRECTORY    ends it; the directory is the caller's to remove
set -euo pipefail

verb="$1" directory="$2"
programs="$(compgen -G '/usr/lib/postgresql/*/bin' | sort --version-sort | tail -1)"
# It refuses to run as root, which tests in a container often are.
as_owner() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}
# Where its owner may be, whoever calls.
cd /

case "$verb" in
start)
    [ "$(id -u)" != 0 ] || chown postgres "$directory"
    port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    echo secret | as_owner tee "$directory/password" >/dev/null
    as_owner "$programs/initdb" -D "$directory/cluster" --auth=scram-sha-256 --pwfile="$directory/password" \
        --username=fidibus --encoding=UTF8 --no-locale --no-sync >"$directory/initdb.log" 2>&1 || {
        cat "$directory/initdb.log" >&2
        exit 1
    }
    as_owner "$programs/pg_ctl" -D "$directory/cluster" -w -t 60 -l "$directory/cluster/log" start \
        -o "-p $port -k $directory -c listen_addresses=127.0.0.1 -c fsync=off" >/dev/null || {
        cat "$directory/cluster/log" >&2
        exit 1
    }
    echo "postgres://fidibus:secret@127.0.0.1:$port/postgres"
    ;;
stop)
    as_owner "$programs/pg_ctl" -D "$directory/cluster" -m immediate stop >/dev/null
    ;;
*)
    echo "postgres.sh: start or stop, not $verb" >&2
    exit 1
    ;;
esac
