-- Jobs that waited past their expires_at or deadline_at, whether a worker is there or not.
WITH unwanted AS (
    SELECT id FROM assayline.jobs
     WHERE state IN ('scheduled', 'queued') AND least(expires_at, deadline_at) <= clock_timestamp()
     ORDER BY least(expires_at, deadline_at) LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE assayline.jobs
   SET state = 'expired', reason = CASE state WHEN 'queued' THEN 'expire_queued' ELSE 'expire_scheduled' END,
       finished_at = clock_timestamp()
 WHERE id = ANY (ARRAY(SELECT id FROM unwanted)) AND state IN ('scheduled', 'queued')
RETURNING id, state
