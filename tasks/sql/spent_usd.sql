-- What the calls of some models, made with one account since a time, have cost. Unknown is not free: such a call counts
-- as the dearest of them; where none of them cost anything that is known, as the dearest of the days before, and where
-- there is none either, as the worst that a call may cost. NULL where nobody knows that.
-- A call under way does not count: the limiter holds it at its worst.
WITH made AS (
    SELECT coalesce(sum(c.cost_usd), 0) AS known_usd, count(*) FILTER (WHERE c.cost_usd IS NULL) AS unknown,
           max(c.cost_usd) FILTER (WHERE c.cost_usd > 0) AS dearest_usd
      FROM assayline.calls c
     WHERE c.started_at >= CAST(:since AS timestamptz) AND c.provider = :provider AND c.account = :account
       AND CASE WHEN CAST(:models AS text[]) IS NULL THEN NOT c.model = ANY(CAST(:others AS text[]))
                ELSE c.model = ANY(CAST(:models AS text[])) END
       AND c.outcome NOT IN ('not_called', 'cached')
       AND NOT (c.outcome = 'unknown' AND EXISTS (SELECT FROM assayline.jobs j WHERE j.id = c.job_id
                                                     AND j.claim_no = c.claim_no AND j.state = 'running'))
)
SELECT known_usd + CASE WHEN unknown = 0 THEN 0 ELSE unknown * coalesce(
           dearest_usd,
           (SELECT max(c.cost_usd) FROM assayline.calls c -- not looked for where it is not needed
             WHERE c.started_at >= CAST(:since AS timestamptz) - make_interval(days => :days_before)
               AND c.started_at < CAST(:since AS timestamptz)
               AND c.provider = :provider AND c.account = :account AND c.cost_usd > 0
               AND CASE WHEN CAST(:models AS text[]) IS NULL THEN NOT c.model = ANY(CAST(:others AS text[]))
                        ELSE c.model = ANY(CAST(:models AS text[])) END),
           CAST(:worst_usd AS numeric)) END AS usd
  FROM made
