-- Where a replay's new jobs stand. They are younger than their replay: older months are not looked into.
SELECT c.state, count(*) AS jobs
  FROM assayline.replay_jobs i JOIN assayline.jobs c ON c.id = i.new_job_id
 WHERE i.replay_id = CAST(:id AS uuid)
   AND c.id >= assayline.uuid7_floor(CAST(:created_at AS timestamptz) - interval '1 hour')
 GROUP BY c.state
