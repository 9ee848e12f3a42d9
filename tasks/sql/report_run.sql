-- Writes how far a night's run has come; with the state `running` it also says that its worker is still at it. No row
-- comes back where another worker has taken it since.
UPDATE assayline.schedule_runs
   SET state = :state, jobs = :jobs, repeats = :repeats, refused = :refused, problems = CAST(:problems AS jsonb),
       lease_until = CASE WHEN :state = 'running' THEN clock_timestamp() + make_interval(secs => :lease_s) END,
       finished_at = CASE WHEN :state <> 'running' THEN clock_timestamp() END
 WHERE schedule = :schedule AND local_date = :local_date AND fold = :fold AND state = 'running' AND attempts = :attempts
RETURNING attempts
