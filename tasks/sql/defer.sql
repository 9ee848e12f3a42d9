-- Puts off a schedule's jobs that its window left over: they wait for the next opening. Bulk jobs alone, and only those
-- that nobody has released; a job that runs is let run. Asked each minute while the window is closed, so it looks at few:
-- what its tenant has due in the bulk lanes, and what becomes due before the opening, where none is once it is put off.
WITH RECURSIVE queues AS ( -- one look into the index each
    (SELECT d.provider, d.lane, d.model FROM assayline.due d ORDER BY d.provider, d.lane, d.model LIMIT 1)
    UNION ALL
    SELECT n.provider, n.lane, n.model FROM queues q CROSS JOIN LATERAL (
        SELECT d.provider, d.lane, d.model FROM assayline.due d
         WHERE (d.provider, d.lane, d.model) > (q.provider, q.lane, q.model)
         ORDER BY d.provider, d.lane, d.model LIMIT 1) n
), waiting AS (
    SELECT d.job_id FROM queues q CROSS JOIN LATERAL (
        SELECT d.job_id FROM assayline.due d
         WHERE q.lane = 'bulk' AND d.provider = q.provider AND d.lane = q.lane AND d.model = q.model AND d.tenant = :tenant
        OFFSET 0) d -- by the index, queue after queue
    UNION ALL
    SELECT l.job_id FROM assayline.later l WHERE l.not_before < :opens_at
), late AS (
    SELECT j.id FROM waiting w CROSS JOIN LATERAL (
        SELECT j.id FROM assayline.jobs j
         WHERE j.id = w.job_id AND j.state = 'scheduled' AND j.lane = 'bulk' AND j.source = :source
           AND j.not_before < :opens_at
           FOR UPDATE SKIP LOCKED) j
     LIMIT :most
)
UPDATE assayline.jobs SET not_before = :opens_at, reason = 'defer'
 WHERE id = ANY (ARRAY(SELECT id FROM late)) AND state = 'scheduled'
RETURNING id
