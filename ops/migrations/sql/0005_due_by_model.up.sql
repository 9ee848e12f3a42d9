-- Jobs of one limit group must be found without reading past those of a group that is closed. A group is some models of
-- one provider; which, the catalog says.
DROP INDEX assayline.jobs_due;
CREATE INDEX jobs_due ON assayline.jobs (provider, lane, model, priority, not_before, id) WHERE state = 'scheduled';
