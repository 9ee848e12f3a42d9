-- Why old jobs of a replay could not be replayed, the commonest reasons first.
SELECT problem, count(*) AS jobs FROM assayline.replay_jobs
 WHERE replay_id = CAST(:id AS uuid) AND problem IS NOT NULL
 GROUP BY problem ORDER BY count(*) DESC, problem LIMIT 20
