-- The two shared tables, and those of Fidibus in the schema "collab". Idempotent; `fidibus migrate` runs it in
-- one transaction, and so does `psql -1 -f`. A table that exists is taken as it is: nothing of it is
-- altered or dropped, and it gets no index.

do $$
declare
    users oid := to_regclass('"user"');
begin
    if to_regclass('yjs_document') is null then
        create table yjs_document (
            id text primary key,
            data bytea not null,
            updated_at timestamptz not null default now()
        );
        create index idx_yjs_document_updated on yjs_document (updated_at);
    end if;
    if to_regclass('yjs_update_log') is not null then
        return;
    end if;
    create table yjs_update_log (
        id bigserial primary key,
        document_id text not null references yjs_document (id) on delete cascade,
        update_data bytea not null,
        user_id text,
        created_at timestamptz not null default now()
    );
    create index yjs_update_log_document_id_idx on yjs_update_log (document_id);
    -- Only where there are users to point at, and their id is text with a unique index of its own.
    if exists (
        select from pg_attribute a
        join pg_index i on i.indrelid = a.attrelid and i.indisunique and i.indnatts = 1
             and i.indkey[0] = a.attnum and i.indpred is null
        where a.attrelid = users and a.attname = 'id' and not a.attisdropped
          and a.atttypid in ('text'::regtype, 'varchar'::regtype)
    ) then
        alter table yjs_update_log add constraint yjs_update_log_user_id_fkey
            foreign key (user_id) references "user" (id) on delete set null;
        create index yjs_update_log_user_id_idx on yjs_update_log (user_id);
    end if;
end $$;

create schema if not exists collab;

-- The checksum holds for as long as written_at (microseconds) is that of yjs_document.updated_at: a
-- snapshot that another program wrote is judged by whether it can be read.
create table if not exists collab.snapshot (
    document_id text primary key,
    sha256 bytea not null,
    written_at bigint not null,
    coverage bytea
);

-- Rows of the log that a snapshot holds and that are kept as history. No foreign key, so as to leave the
-- shared table as it is; created_at (microseconds) tells a row from a later one with the same id.
-- Losing these tables loses no edit: what is folded is then loaded once more.
create table if not exists collab.folded (
    log_id bigint primary key,
    created_at bigint not null
);

-- Rows of the log that cannot be read: kept, never loaded, never deleted by us.
create table if not exists collab.quarantine (
    log_id bigint primary key,
    reason text not null,
    found_at timestamptz not null default now()
);

-- Numbers for the rows of a log whose ids are not numbers.
create table if not exists collab.log_key (
    log_id bigserial primary key,
    row_id text not null unique
);

create table if not exists collab.migration (
    version integer primary key,
    applied_at timestamptz not null default now()
);
insert into collab.migration (version) values (1) on conflict (version) do nothing;
