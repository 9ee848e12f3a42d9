DROP INDEX assayline.jobs_due;
CREATE INDEX jobs_due ON assayline.jobs (provider, lane, priority, not_before, id) WHERE state = 'scheduled';
