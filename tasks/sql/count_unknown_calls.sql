-- How many calls there are of which nobody can say how they ended, by provider: of the latest `:most` that are open or
-- unknown, which an index has by themselves. Those of a claim that still runs do not count. A subselect, not a join: that
-- could be one with all of `jobs`.
SELECT c.provider, count(*) AS calls
  FROM (SELECT job_id, claim_no, provider FROM assayline.calls WHERE outcome = 'unknown'
         ORDER BY job_id DESC, claim_no DESC, call_no DESC LIMIT :most) c
 WHERE (SELECT j.claim_no = c.claim_no AND j.state = 'running' FROM assayline.jobs j WHERE j.id = c.job_id) IS NOT TRUE
 GROUP BY c.provider ORDER BY c.provider
