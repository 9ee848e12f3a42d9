-- How many calls there are of which nobody can say how they ended, by provider: of the latest `:most` that are open or
-- unknown, which an index has by themselves. Those of a claim that still runs do not count.
SELECT c.provider, count(*) AS calls
  FROM (SELECT job_id, claim_no, provider FROM assayline.calls WHERE outcome = 'unknown'
         ORDER BY job_id DESC, claim_no DESC, call_no DESC LIMIT :most) c
 WHERE NOT EXISTS (SELECT FROM assayline.jobs j WHERE j.id = c.job_id AND j.claim_no = c.claim_no
                                                  AND j.state IS NOT DISTINCT FROM 'running')
 GROUP BY c.provider ORDER BY c.provider
