-- Calls of which nobody can say how they ended are found without reading the ledger. Every call is `unknown` while it
-- is open, so the index has an entry for each, for as long as it takes; closing a call adds nothing to it.
-- Building it reads `calls` once, and keeps writes out of it meanwhile.
CREATE INDEX calls_unknown ON assayline.calls (job_id, claim_no, call_no) WHERE outcome = 'unknown';
