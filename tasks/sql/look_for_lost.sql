-- What a rescuer looks at first, and that it has looked: the server's time; whether dispatchers have had the server in
-- sight for `:dead_after_s` seconds, no two looks of whichever of them further apart than `:longest_gap_s`; and of the jobs
-- that are lost (see rescue.sql) those that have no attempt left.
WITH sight AS (
    UPDATE assayline.sight
       SET since = CASE WHEN looked_at < clock_timestamp() - make_interval(secs => :longest_gap_s) THEN clock_timestamp()
                        ELSE since END,
           looked_at = clock_timestamp()
    RETURNING since, looked_at
)
SELECT s.looked_at, s.since <= s.looked_at - make_interval(secs => :dead_after_s) AS sees,
       ARRAY(SELECT j.id
               FROM assayline.jobs j LEFT JOIN assayline.workers w ON w.incarnation = j.incarnation
              WHERE j.state = 'running' AND j.attempts_used >= j.max_attempts
                AND (j.lease_until <= clock_timestamp()
                     OR (w.heartbeat_at < clock_timestamp() - make_interval(secs => :dead_after_s)) IS NOT FALSE)
       ) AS spent
  FROM sight s
