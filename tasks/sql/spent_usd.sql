-- What the calls of some models, made with one account since a time, have cost. Unknown is not free: such a call counts
-- as the dearest of them whose cost is known. A call under way does not count: the limiter holds it at its worst.
WITH made AS (
    SELECT c.cost_usd
      FROM assayline.calls c
     WHERE c.started_at >= CAST(:since AS timestamptz) AND c.provider = :provider AND c.account = :account
       AND CASE WHEN CAST(:models AS text[]) IS NULL THEN NOT c.model = ANY(CAST(:others AS text[]))
                ELSE c.model = ANY(CAST(:models AS text[])) END
       AND c.outcome NOT IN ('not_called', 'cached')
       AND NOT (c.outcome = 'unknown' AND EXISTS (SELECT FROM assayline.jobs j WHERE j.id = c.job_id
                                                     AND j.claim_no = c.claim_no AND j.state = 'running'))
)
SELECT coalesce(sum(coalesce(cost_usd, dearest)), 0) AS usd FROM made, (SELECT max(cost_usd) AS dearest FROM made) d
