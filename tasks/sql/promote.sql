-- Jobs whose time has come are due from now on. `jobs` is not written. In portions; `:after` leaves out what was looked
-- through before: a transaction that stays open keeps the dead entries of all that was promoted since, in front of the
-- others. A row that somebody is about to take away is passed by.
WITH ripe AS MATERIALIZED (
    SELECT l.not_before, l.job_id FROM assayline.later l
     WHERE l.not_before <= clock_timestamp() AND l.not_before >= CAST(:after AS timestamptz)
     ORDER BY l.not_before LIMIT :most FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM assayline.later l USING ripe r WHERE l.not_before = r.not_before AND l.job_id = r.job_id
    RETURNING l.job_id
), come AS (
    INSERT INTO assayline.due (provider, lane, model, tenant, analysis, priority, job_id)
    SELECT j.provider, j.lane, j.model, j.tenant, j.analysis, j.priority, j.id
      FROM assayline.jobs j WHERE j.id = ANY (ARRAY(SELECT g.job_id FROM gone g)) AND j.state = 'scheduled'
    ON CONFLICT DO NOTHING
    RETURNING provider, lane
)
SELECT (SELECT count(*) FROM ripe) AS jobs, (SELECT max(not_before) FROM ripe) AS last,
       ARRAY(SELECT DISTINCT c.provider || '.' || c.lane FROM come c) AS queues,
       (SELECT extract(epoch FROM min(l.not_before) - clock_timestamp())::float8 FROM assayline.later l
         WHERE l.not_before > clock_timestamp()) AS next_in_s
