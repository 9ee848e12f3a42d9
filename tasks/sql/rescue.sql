-- Jobs whose worker is dead or whose attempt is overdue go back to wait; one whose attempts are used up is a dead
-- letter if it is of the `:answerless`, and so is one that takes its workers with it (poison: docs/adr/0014-poison.md).
-- Their calls stay `unknown`: nobody can say whether they were paid. Heartbeats are judged by this server's clock, and
-- only once the server has been up long enough for the living to have sent one; nothing is, where this statement has
-- waited for the server since `:looked_at`.
WITH lost AS MATERIALIZED ( -- all of them, though a pass moves few: who died with whom must be seen whole
    SELECT j.id, j.incarnation, j.provider, j.lane, j.claim_no, j.causes, d.dead,
           j.attempts_used >= j.max_attempts AND j.id = ANY (CAST(:answerless AS uuid[])) AS spent, least(j.expires_at, j.deadline_at) AS wanted_until,
           greatest(0, extract(epoch FROM w.heartbeat_at - j.started_at)) AS ran_s,
           concat('worker ', j.incarnation, ' on ' || w.hostname || ', process ' || w.pid) AS worker
      FROM assayline.jobs j LEFT JOIN assayline.workers w ON w.incarnation = j.incarnation
     CROSS JOIN LATERAL (
        SELECT pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :dead_after_s)
               AND (w.incarnation IS NULL
                    OR w.heartbeat_at < clock_timestamp() - make_interval(secs => :dead_after_s)) AS dead
     ) d
     WHERE j.state = 'running' AND (d.dead OR j.lease_until <= clock_timestamp())
       AND clock_timestamp() <= CAST(:looked_at AS timestamptz) + make_interval(secs => :longest_gap_s)
), counted AS MATERIALIZED ( -- deaths: of workers that ran it before, in a row, that is under claim numbers without a gap
    SELECT l.*, d.deaths, d.since, d.incarnations, d.workers
      FROM lost l CROSS JOIN LATERAL (
        SELECT count(*)::integer AS deaths, min(c.at) AS since,
               coalesce(array_agg(c.incarnation) FILTER (WHERE c.incarnation IS NOT NULL), '{}') AS incarnations,
               string_agg(c.worker, '; ' ORDER BY c.claim_no) AS workers
          FROM (SELECT CAST(e.cause ->> 'claim_no' AS integer) AS claim_no, CAST(e.cause ->> 'at' AS timestamptz) AS at,
                       CAST(e.cause ->> 'incarnation' AS uuid) AS incarnation, e.cause ->> 'message' AS worker,
                       row_number() OVER (ORDER BY CAST(e.cause ->> 'claim_no' AS integer) DESC) AS place
                  FROM jsonb_array_elements(l.causes) AS e(cause)
                 WHERE l.dead AND e.cause ->> 'error' = 'worker_lost') c
         WHERE c.claim_no + c.place = l.claim_no
      ) d
), weighed AS MATERIALIZED (
    -- calm: of the workers that died since the first of its own, at least half are its own.
    -- alone: no other job that died with this worker has as many deaths behind it.
    SELECT c.*, c.deaths > 0 AND o.others <= c.deaths + 1 AS calm,
           rank() OVER (PARTITION BY c.incarnation ORDER BY c.deaths DESC) = 1
           AND count(*) OVER (PARTITION BY c.incarnation, c.deaths) = 1 AS alone
      FROM counted c CROSS JOIN LATERAL (
        SELECT count(*) AS others FROM assayline.workers w
         WHERE c.deaths > 0 AND w.incarnation <> c.incarnation AND w.incarnation <> ALL (c.incarnations)
           AND w.heartbeat_at < clock_timestamp() - make_interval(secs => :dead_after_s)
           AND w.heartbeat_at > c.since - make_interval(secs => 2 * :dead_after_s)
      ) o
), judged AS MATERIALIZED (
    SELECT w.*, CASE WHEN w.deaths >= :rescues AND (w.calm AND w.alone OR w.deaths + 1 >= :certain) THEN 'poison'
                     WHEN w.spent THEN 'bury' ELSE 'rescue' END AS move
      FROM weighed w
), held AS MATERIALIZED ( -- an array, not a join: see release_due. Suspects together, so that they are put apart
    SELECT j.id FROM assayline.jobs j
     WHERE j.state = 'running'
       AND j.id = ANY (ARRAY(SELECT d.id FROM judged d ORDER BY d.deaths DESC, random() LIMIT :most))
       FOR UPDATE SKIP LOCKED
), put AS MATERIALIZED ( -- those that lost a second worker or a later one come back one by one, not to die together again
    SELECT d.*, CASE WHEN d.move = 'rescue' AND d.deaths > 0
                     THEN least(greatest(:apart_s, 2 * avg(d.ran_s) OVER kind), :longest_apart_s / count(*) OVER kind)
                          * (row_number() OVER (kind ORDER BY d.lane <> 'interactive', d.wanted_until, random()) - 1)
                     ELSE 0 END AS wait_s
      FROM judged d WHERE d.id = ANY (ARRAY(SELECT h.id FROM held h))
    WINDOW kind AS (PARTITION BY d.provider, d.move = 'rescue' AND d.deaths > 0)
)
UPDATE assayline.jobs j
   SET state = CASE p.move WHEN 'rescue' THEN 'scheduled' WHEN 'bury' THEN 'failed' WHEN 'poison' THEN 'failed' END,
       reason = p.move,
       not_before = clock_timestamp() + make_interval(secs => p.wait_s), lease_until = NULL, copies = 0,
       finished_at = CASE WHEN p.move <> 'rescue' THEN clock_timestamp() END,
       causes = j.causes || jsonb_build_array(jsonb_build_object(
           'at', clock_timestamp(), 'claim_no', j.claim_no, 'provider', j.provider, 'model', j.model, 'move', p.move,
           'error', CASE WHEN p.move = 'poison' THEN 'poison' WHEN p.dead THEN 'worker_lost' ELSE 'attempt_overdue' END,
           'message', CASE WHEN p.move = 'poison' THEN format(
               '%s workers in a row died while they ran it: %s. Read what each of them logged last, and mend what breaks'
               ' them (the input, an adapter, a limit of memory) before you replay it',
               p.deaths + 1, concat_ws('; ', p.workers, p.worker)) ELSE p.worker END,
           'incarnation', j.incarnation))
  FROM put p WHERE j.id = p.id AND j.claim_no = p.claim_no AND j.state = 'running'
RETURNING j.id, j.state, j.provider, j.lane, j.reason
