-- Releases due jobs of one queue, most urgent first, as many as the queue has room for; a job that is no longer wanted
-- expires instead. Runs after the provider's advisory lock is held, in the same transaction: the counts are exact.
--
-- Room: what is queued or running may not exceed the provider's live slots and a short backlog, so that a worker finds
-- its next message without a dispatcher's pass between; bulk keeps to its share of the slots.
WITH live AS (
    SELECT coalesce(sum(slots), 0)::integer AS slots FROM assayline.workers
     WHERE :provider = ANY(providers) AND NOT stopping
       AND heartbeat_at > clock_timestamp() - make_interval(secs => :dead_after_s)
), active AS (
    SELECT count(*)::integer AS total, (count(*) FILTER (WHERE lane = 'bulk'))::integer AS bulk
      FROM assayline.jobs WHERE provider = :provider AND lane IN ('interactive', 'bulk') AND state IN ('queued', 'running')
), room AS (
    SELECT slots, CASE WHEN slots = 0 THEN 0 ELSE greatest(0, least(
               slots + greatest(:least_backlog, ceil(slots * CAST(:backlog_share AS float8))::integer) - total,
               CASE WHEN CAST(:lane AS text) = 'bulk' THEN greatest(1, floor(slots * CAST(:bulk_share AS float8))::integer) - bulk
                    ELSE :most END,
               :most)) END AS n
      FROM live, active
), due AS (
    SELECT d.id
      FROM generate_series(0, 9) AS p(priority)
     CROSS JOIN LATERAL (
        SELECT j.id FROM assayline.jobs j
         WHERE j.provider = :provider AND j.lane = :lane AND j.state = 'scheduled' AND j.priority = p.priority
           AND j.not_before <= clock_timestamp()
         ORDER BY j.not_before, j.id LIMIT (SELECT n + 1 FROM room) FOR UPDATE SKIP LOCKED
     ) d LIMIT (SELECT n + 1 FROM room) -- one more than there is room for: whether anything is left behind
), moved AS (
    UPDATE assayline.jobs j
       SET state = CASE WHEN j.expires_at <= clock_timestamp() THEN 'expired' ELSE 'queued' END,
           reason = CASE WHEN j.expires_at <= clock_timestamp() THEN 'expire_scheduled' ELSE 'release' END,
           release = j.release + 1, copies = 1, queued_at = clock_timestamp(),
           finished_at = CASE WHEN j.expires_at <= clock_timestamp() THEN clock_timestamp() END
     -- An array, not a join: the planner cannot know how few there are, and would read the whole table for a hash.
     WHERE j.id = ANY ((ARRAY(SELECT id FROM due))[1:(SELECT n FROM room)]) AND j.state = 'scheduled'
    RETURNING j.id, j.release, j.provider, j.lane, j.priority, j.not_before, j.state
)
-- At least one row: whether something due was left behind is told even where nothing moved.
SELECT m.id, m.release, m.provider, m.lane, m.state, r.slots > 0 AND (SELECT count(*) FROM due) > r.n AS short
  FROM room r LEFT JOIN moved m ON true ORDER BY m.priority, m.not_before, m.id
