-- Jobs whose worker is dead or whose attempt is overdue go back to wait; one whose attempts are used up is a dead
-- letter. Their calls stay `unknown`: nobody can say whether they were paid. Heartbeats are judged by this server's
-- clock, and only once the server has been up long enough for the living to have sent one.
WITH lost AS (
    SELECT j.id, j.incarnation, j.attempts_used >= j.max_attempts AS spent,
           CASE WHEN j.lease_until <= clock_timestamp() THEN 'attempt_overdue' ELSE 'worker_lost' END AS error
      FROM assayline.jobs j LEFT JOIN assayline.workers w ON w.incarnation = j.incarnation
     WHERE j.state = 'running'
       AND (j.lease_until <= clock_timestamp()
            OR (pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :dead_after_s)
                AND (w.incarnation IS NULL
                     OR w.heartbeat_at < clock_timestamp() - make_interval(secs => :dead_after_s))))
     LIMIT :most FOR UPDATE OF j SKIP LOCKED
)
UPDATE assayline.jobs j
   SET state = CASE WHEN lost.spent THEN 'failed' ELSE 'scheduled' END,
       reason = CASE WHEN lost.spent THEN 'bury' ELSE 'rescue' END,
       not_before = clock_timestamp(), lease_until = NULL, copies = 0,
       finished_at = CASE WHEN lost.spent THEN clock_timestamp() END,
       causes = j.causes || jsonb_build_array(jsonb_build_object(
           'at', clock_timestamp(), 'claim_no', j.claim_no, 'provider', j.provider, 'model', j.model,
           'move', CASE WHEN lost.spent THEN 'bury' ELSE 'rescue' END, 'error', lost.error,
           'message', format('worker %s', lost.incarnation)))
  FROM lost WHERE j.id = lost.id AND j.state = 'running'
RETURNING j.id, j.state, j.provider, j.lane
