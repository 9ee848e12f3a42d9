-- Jobs that waited past their expires_at or deadline_at, whether a worker is there or not. Each state by itself: each
-- has its own partial index, and together they would have all of history read.
WITH waiting AS (
    SELECT id FROM assayline.jobs
     WHERE state = 'scheduled' AND least(expires_at, deadline_at) <= clock_timestamp() LIMIT :most FOR UPDATE SKIP LOCKED
), released AS (
    SELECT id FROM assayline.jobs
     WHERE state = 'queued' AND least(expires_at, deadline_at) <= clock_timestamp() LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE assayline.jobs
   SET state = 'expired', reason = CASE state WHEN 'queued' THEN 'expire_queued' ELSE 'expire_scheduled' END,
       finished_at = clock_timestamp()
 WHERE id IN (SELECT id FROM waiting UNION ALL SELECT id FROM released) AND state IN ('scheduled', 'queued')
RETURNING id, state
