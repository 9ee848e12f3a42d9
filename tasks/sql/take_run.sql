-- Takes the night of a schedule for one worker: a new row, or one whose worker died and whose lease is over. No row comes
-- back where somebody else has it, or where it is over and done.
INSERT INTO assayline.schedule_runs AS r (schedule, local_date, fold, state, opens_at, closes_at, lease_until)
VALUES (:schedule, :local_date, :fold, 'running', :opens_at, :closes_at, clock_timestamp() + make_interval(secs => :lease_s))
ON CONFLICT (schedule, local_date, fold) DO UPDATE
   SET lease_until = excluded.lease_until, attempts = r.attempts + 1
 WHERE r.state = 'running' AND r.lease_until < clock_timestamp()
RETURNING attempts, jobs
