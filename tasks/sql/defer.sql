-- Puts off a schedule's jobs that its window left over: they wait for the next opening. Bulk jobs alone, and only those
-- that nobody has released; a job that runs is let run.
WITH late AS (
    SELECT j.id FROM assayline.waiting w JOIN assayline.jobs j ON j.id = w.job_id
     WHERE j.state = 'scheduled' AND j.lane = 'bulk' AND j.source = :source AND j.not_before < :opens_at
     LIMIT :most FOR UPDATE OF j SKIP LOCKED
)
UPDATE assayline.jobs SET not_before = :opens_at, reason = 'defer'
 WHERE id = ANY (ARRAY(SELECT id FROM late)) AND state = 'scheduled'
RETURNING id
