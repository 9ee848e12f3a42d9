CREATE INDEX jobs_due_by_priority ON assayline.jobs (provider, lane, priority, not_before, id) WHERE state = 'scheduled';
DROP INDEX assayline.jobs_due;
ALTER INDEX assayline.jobs_due_by_priority RENAME TO jobs_due;
