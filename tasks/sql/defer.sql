-- Puts off a schedule's jobs that its window left over: they wait for the next opening. Bulk jobs alone, and only those
-- that nobody has released; a job that runs is let run.
WITH late AS (
    SELECT id FROM assayline.jobs
     WHERE state = 'scheduled' AND lane = 'bulk' AND source = :source AND not_before < :opens_at
     LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE assayline.jobs SET not_before = :opens_at, reason = 'defer'
 WHERE id IN (SELECT id FROM late) AND state = 'scheduled'
RETURNING id
