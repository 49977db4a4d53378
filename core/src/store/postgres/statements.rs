//! The statements for one catalogue, spelled out once per database. Everything that varies comes from the
//! catalogue and is quoted there; everything that users can choose is a parameter.

use std::sync::Arc;

use super::catalogue::{Catalogue, LogKey, Time, UserColumn};
use super::pieces::PIECE_BYTES;

/// A time-ordered UUID (version 7) made from what PostgreSQL 13 has; `i.n` makes it another for each row.
const TIME_ORDERED_ID: &str =
    "(select substr(t, 1, 8) || '-' || substr(t, 9, 4) || '-7' || substr(r, 14, 3) || '-'
    || substr(r, 17, 4) || '-' || substr(r, 21) from (select
    lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') t,
    replace(gen_random_uuid()::text, '-', '') r where i.n > 0) as made)";

/// A statement is prepared once per connection, and cheap to hand over.
pub(super) type Statement = Arc<str>;

#[derive(Debug)]
pub(super) struct Statements {
    /// `$1` document: gives numbers to rows that have none; only where ids are not numbers.
    pub(super) number_rows: Option<Statement>,
    /// `$1` document → (null, piece, false, first byte from 1, bytes in all, sha256) for each piece of the snapshot,
    /// in order, and (id, update, flagged, null, null, null) for each row, in any.
    pub(super) load: Statement,
    /// `$1` document → (sha256, coverage), locked.
    pub(super) lock: Statement,
    /// `$1` document → (snapshot, sha256).
    pub(super) read: Statement,
    /// `$1` document: an empty row, where there is none.
    pub(super) create: Statement,
    /// `$1` document, `$2` snapshot, `$3` sha256, `$4` coverage.
    pub(super) write: Statement,
    /// `$1` document, `$2` ids of rows.
    pub(super) fold_away: Statement,
    pub(super) fold_and_keep: Statement,
    /// `$1` documents, `$2` updates, `$3` users → ids, which count up in the order of the rows.
    pub(super) append: Statement,
    /// `$1` ids, `$2` reasons.
    pub(super) quarantine: Statement,
    /// `$1` ids.
    pub(super) release: Statement,
    /// `$1` document, one after the other in one transaction; the last one tells whether there was one.
    pub(super) delete: Vec<Statement>,
    /// `$1` after (empty: from the start), `$2` limit.
    pub(super) list: Statement,
    pub(super) ping: Statement,
    /// `$1` age in seconds, `$2` rows at most → one number: how many were deleted.
    pub(super) prune: Statement,
}

impl Statements {
    pub(super) fn new(tables: &Catalogue) -> Self {
        let doc = &tables.document;
        let rows = Rows::new(tables);
        let Rows { id, from, created, .. } = &rows;
        let (log, update) = (&tables.log, tables.update);
        let now = now(tables.updated_at);
        let written = microseconds("d.updated_at");
        let unfolded = format!(
            "not exists (select from collab.folded f where f.log_id = {id} and f.created_at = {created})"
        );
        let flagged = format!("exists (select from collab.quarantine q where q.log_id = {id})");
        let these = format!("{from} where l.document_id = $1 and {id} = any($2) and not {flagged}");
        let found = format!(
            "from {doc} d left join collab.snapshot s on s.document_id = d.id and s.written_at = {written}
             where d.id = $1"
        );
        let number_rows = matches!(tables.log_id, LogKey::Text(_)).then(|| {
            format!(
                "insert into collab.log_key (row_id) select id::text from {log} where document_id = $1
                 and not exists (select from collab.log_key where row_id = id::text) on conflict do nothing"
            )
        });
        let mut delete = vec![
            format!("select 1 from {doc} where id = $1 for update"),
            format!(
                "delete from collab.folded where log_id in (select {id} from {from} where l.document_id = $1)"
            ),
            format!(
                "delete from collab.quarantine where log_id in (select {id} from {from} where l.document_id = $1)"
            ),
        ];
        if number_rows.is_some() {
            delete.push(format!(
                "delete from collab.log_key where row_id in (select id::text from {log} where document_id = $1)"
            ));
        }
        delete.push(format!("delete from {log} where document_id = $1"));
        delete.push("delete from collab.snapshot where document_id = $1".into());
        delete.push(format!("delete from {doc} where id = $1"));
        Self {
            number_rows: number_rows.map(Into::into),
            // One statement, so that a row which is folded meanwhile is seen either in the log or in the
            // snapshot. `offset 0` has the snapshot fetched once, and not for each piece.
            load: format!(
                "select null::bigint, substr(w.data, at, {PIECE_BYTES}), false, at, octet_length(w.data), w.sha256
                 from (select substr(d.data, 1) as data, s.sha256 {found} offset 0) w,
                      generate_series(1, greatest(octet_length(w.data), 1), {PIECE_BYTES}) at
                 union all
                 select {id}, l.{update}, {flagged}, null, null, null
                 from {from} where l.document_id = $1 and {unfolded}"
            )
            .into(),
            // Not `for update`, which would hold up every append to the document, and with it the commit of
            // all others'.
            lock: format!("select s.sha256, s.coverage {found} for no key update of d").into(),
            read: format!("select d.data, s.sha256 {found}").into(),
            create: format!(
                "insert into {doc} (id, data, updated_at) values ($1, '\\x0000', {now}) on conflict (id) do nothing"
            )
            .into(),
            write: format!(
                "with d as (update {doc} d set data = $2, updated_at = {now} where id = $1 returning d.id, {written} as us)
                 insert into collab.snapshot (document_id, sha256, coverage, written_at) select id, $3, $4, us from d
                 on conflict (document_id) do update
                 set sha256 = excluded.sha256, coverage = excluded.coverage, written_at = excluded.written_at"
            )
            .into(),
            fold_away: rows.delete(&these).into(),
            fold_and_keep: format!(
                "insert into collab.folded (log_id, created_at) select {id}, {created} from {these}
                 on conflict (log_id) do update set created_at = excluded.created_at"
            )
            .into(),
            append: append(tables).into(),
            quarantine: "insert into collab.quarantine (log_id, reason) select * from unnest($1::bigint[], $2::text[])
                         on conflict (log_id) do nothing"
                .into(),
            release: "delete from collab.quarantine where log_id = any($1)".into(),
            delete: delete.into_iter().map(Into::into).collect(),
            list: format!("select id::text from {doc} where id > $1 order by id limit $2").into(),
            ping: format!("select 1 from {doc} limit 1").into(),
            prune: rows.prune(tables).into(),
        }
    }
}

/// How rows of the log are named in statements.
struct Rows<'a> {
    id: &'static str,
    from: String,
    created: String,
    log: &'a str,
    has_keys: bool,
}

impl<'a> Rows<'a> {
    fn new(tables: &'a Catalogue) -> Self {
        let log = &tables.log;
        let (id, from, has_keys) = match &tables.log_id {
            LogKey::Number => ("l.id::bigint", format!("{log} l"), false),
            LogKey::Text(_) => {
                ("k.log_id", format!("{log} l join collab.log_key k on k.row_id = l.id::text"), true)
            }
        };
        let created = tables.created_at.map_or_else(|| "0".into(), |_| microseconds("l.created_at"));
        Self { id, from, created, log, has_keys }
    }

    fn delete(&self, these: &str) -> String {
        let delete = format!("delete from {} where id in (select l.id from {these})", self.log);
        match self.has_keys {
            false => delete,
            true => format!(
                "with gone as ({delete} returning id::text) delete from collab.log_key where row_id in (select id from gone)"
            ),
        }
    }

    // Folded rows only, the oldest first: whatever else is in the log is still needed.
    fn prune(&self, tables: &Catalogue) -> String {
        let Self { id, from, created, log, has_keys } = self;
        let from = if *has_keys { format!("({from})") } else { from.clone() };
        let old = tables.created_at.map_or_else(
            || "false".into(),
            |time| format!("l.created_at < {} - make_interval(secs => $1)", now(time)),
        );
        let keys = match has_keys {
            true => ", keys as (delete from collab.log_key where row_id in (select id::text from gone))",
            false => "",
        };
        format!(
            "with oldest as (select log_id, created_at from collab.folded order by log_id limit $2),
             these as (select f.log_id, l.id from oldest f left join {from}
                       on {id} = f.log_id and {created} = f.created_at where l.id is null or {old}),
             marks as (delete from collab.folded where log_id in (select log_id from these)),
             gone as (delete from {log} where id in (select id from these) returning id){keys}
             select count(*) from gone"
        )
    }
}

fn append(tables: &Catalogue) -> String {
    let Catalogue { document, log, update, .. } = tables;
    let mut columns = format!("document_id, {update}");
    let mut values = "i.document_id, i.update_data".to_owned();
    match &tables.user {
        UserColumn::None => {}
        UserColumn::Free => values.push_str(", i.user_id"),
        UserColumn::References(lookup) => values.push_str(&format!(", {lookup}")),
    }
    if tables.user != UserColumn::None {
        columns.push_str(", user_id");
    }
    if let Some(time) = tables.created_at {
        columns.push_str(", created_at");
        values.push_str(&format!(", {}", now(time)));
    }
    let now = now(tables.updated_at);
    // Documents in one order everywhere, so that two servers never wait for each other in a circle. Those
    // that are there are left out: `on conflict` would wait for a snapshot that is being written.
    let input = format!(
        "with input as (select * from unnest($1::text[], $2::bytea[], $3::text[]) with ordinality
                        as i (document_id, update_data, user_id, n)),
         documents as (insert into {document} (id, data, updated_at)
                       select distinct document_id, '\\x0000'::bytea, {now} from input
                       where not exists (select from {document} where id = document_id)
                       order by document_id on conflict (id) do nothing)"
    );
    match &tables.log_id {
        LogKey::Number => format!(
            "{input} insert into {log} ({columns}) select {values} from input i order by i.n returning id::bigint"
        ),
        LogKey::Text(kind) => format!(
            "{input}, made as (insert into collab.log_key (row_id) select {TIME_ORDERED_ID} from input i order by i.n
                               returning log_id, row_id),
             keys as (select log_id, row_id, row_number() over (order by log_id) as n from made)
             insert into {log} (id, {columns}) select k.row_id::{kind}, {values} from input i join keys k using (n)
             order by n returning (select log_id from made where row_id = id::text)"
        ),
    }
}

fn now(time: Time) -> &'static str {
    match time {
        Time::WithZone => "now()",
        Time::WithoutZone => "(now() at time zone 'utc')",
    }
}

pub(super) fn microseconds(column: &str) -> String {
    format!("(extract(epoch from {column}) * 1000000)::bigint")
}
