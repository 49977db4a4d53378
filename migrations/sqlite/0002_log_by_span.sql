-- Rows come in order and of many documents at once. An index by document would be written all over: a page of
-- 4 kB for each row. Within a span of 512 ids it stays on the few pages that were written just before. Who
-- looks for a document asks each span; only deleting a document reads the whole log.
drop index if exists yjs_update_log_document_id_idx;
create index if not exists yjs_update_log_span_idx on yjs_update_log (id / 512, document_id);
