-- Jobs that waited past their expires_at, whether a worker is there or not.
UPDATE assayline.jobs
   SET state = 'expired', reason = CASE state WHEN 'queued' THEN 'expire_queued' ELSE 'expire_scheduled' END,
       finished_at = clock_timestamp()
 WHERE id IN (
    SELECT id FROM assayline.jobs
     WHERE state IN ('scheduled', 'queued') AND expires_at <= clock_timestamp()
     LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING id
