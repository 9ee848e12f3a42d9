-- Removes incarnations dead for an hour that no running job names.
DELETE FROM assayline.workers w
 WHERE w.heartbeat_at < clock_timestamp() - interval '1 hour'
   AND NOT EXISTS (SELECT FROM assayline.jobs j WHERE j.state = 'running' AND j.incarnation = w.incarnation)
