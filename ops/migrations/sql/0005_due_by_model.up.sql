-- Jobs of one limit group must be found without reading past those of a group that is closed. A group is some models of
-- one provider; which, the catalog says.
-- The new one is built first: that keeps writes out of `jobs`, and readers in. Only the old one's end keeps all out.
CREATE INDEX jobs_due_by_model ON assayline.jobs (provider, lane, model, priority, not_before, id) WHERE state = 'scheduled';
DROP INDEX assayline.jobs_due;
ALTER INDEX assayline.jobs_due_by_model RENAME TO jobs_due;
