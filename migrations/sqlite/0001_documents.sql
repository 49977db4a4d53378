-- The two tables that every reader of a Yjs database may know, as on PostgreSQL.
create table if not exists yjs_document (
    id text primary key not null,
    data blob not null,
    updated_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

create table if not exists yjs_update_log (
    id integer primary key autoincrement,
    document_id text not null references yjs_document (id) on delete cascade,
    update_data blob not null,
    user_id text,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

create index if not exists yjs_update_log_document_id_idx on yjs_update_log (document_id);

-- What is our own carries a prefix, since SQLite has no schemas. Losing any of these tables loses no edit.

-- The checksum holds for as long as written_at equals yjs_document.updated_at: a snapshot that another
-- program wrote is judged by whether it can be read.
create table if not exists fidibus_snapshot (
    document_id text primary key not null references yjs_document (id) on delete cascade,
    sha256 blob not null,
    written_at text not null,
    coverage blob
);

-- Rows of the log that a snapshot holds and that are kept as history.
create table if not exists fidibus_folded (
    log_id integer primary key references yjs_update_log (id) on delete cascade
);

-- Rows of the log that cannot be read: kept, never loaded, never deleted by us.
create table if not exists fidibus_quarantine (
    log_id integer primary key references yjs_update_log (id) on delete cascade,
    reason text not null,
    found_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

create table if not exists fidibus_migration (
    version integer primary key,
    applied_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
