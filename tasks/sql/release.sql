-- Releases due jobs of one queue, most urgent first, as many as there is room for; a job that is no longer wanted
-- expires instead. Runs after the provider's advisory lock is held, in the same transaction: the counts are exact.
--
-- Room of the queue: what is queued or running may not exceed the provider's live slots and a short backlog, so that a
-- worker finds its next message without a dispatcher's pass between; bulk keeps to its share of the slots.
-- Room of a limit group: what is queued or running of its models may not exceed `most`, and no more than `more` of them
-- are released. The groups come as a JSON array of {models, most, more}; a group without models holds those that no
-- other names. What no group holds has the queue's room.
WITH RECURSIVE live AS (
    SELECT coalesce(sum(slots), 0)::integer AS slots FROM assayline.workers
     WHERE :provider = ANY(providers) AND NOT stopping
       AND heartbeat_at > clock_timestamp() - make_interval(secs => :dead_after_s)
), active AS MATERIALIZED (
    SELECT lane, model, count(*)::integer AS jobs FROM assayline.jobs
     WHERE provider = :provider AND lane IN ('interactive', 'bulk') AND state IN ('queued', 'running') GROUP BY lane, model
), taken AS (
    SELECT coalesce(sum(jobs), 0)::integer AS total, coalesce(sum(jobs) FILTER (WHERE lane = 'bulk'), 0)::integer AS bulk
      FROM active
), room AS (
    SELECT slots, CASE WHEN slots = 0 THEN 0 ELSE greatest(0, least(
               slots + greatest(:least_backlog, ceil(slots * CAST(:backlog_share AS float8))::integer) - total,
               CASE WHEN CAST(:lane AS text) = 'bulk' THEN greatest(1, floor(slots * CAST(:bulk_share AS float8))::integer) - bulk
                    ELSE :most END,
               :most)) END AS n
      FROM live, taken
), groups AS MATERIALIZED (
    SELECT g.no::integer AS no, g.models, g.most, g.more
      FROM ROWS FROM (jsonb_to_recordset(CAST(:groups AS jsonb)) AS (models text[], most integer, more integer))
           WITH ORDINALITY AS g(models, most, more, no)
), waiting AS ( -- the models that wait, one look into the index each
    (SELECT model FROM assayline.jobs WHERE provider = :provider AND lane = :lane AND state = 'scheduled'
      ORDER BY model LIMIT 1)
    UNION ALL
    SELECT (SELECT j.model FROM assayline.jobs j
             WHERE j.provider = :provider AND j.lane = :lane AND j.state = 'scheduled' AND j.model > w.model
             ORDER BY j.model LIMIT 1)
      FROM waiting w WHERE w.model IS NOT NULL
), grouped AS MATERIALIZED (
    -- A group that has no bounds of its own does not have the rest's.
    SELECT m.model, coalesce(g.no, rest.no, 0) AS no, CASE WHEN g.no IS NULL THEN rest.most ELSE g.most END AS most,
           CASE WHEN g.no IS NULL THEN rest.more ELSE g.more END AS more
      FROM (SELECT model FROM waiting WHERE model IS NOT NULL UNION SELECT model FROM active) m
      LEFT JOIN groups g ON m.model = ANY(g.models) LEFT JOIN groups rest ON rest.models IS NULL
), group_room AS MATERIALIZED (
    SELECT g.no, greatest(0, least(r.n, min(g.more), min(g.most) - coalesce(sum(a.jobs), 0)))::integer AS n
      FROM grouped g LEFT JOIN (SELECT model, sum(jobs) AS jobs FROM active GROUP BY model) a USING (model) CROSS JOIN room r
     GROUP BY g.no, r.n
), due AS (
    SELECT d.*, g.no, row_number() OVER (PARTITION BY g.no ORDER BY d.priority, d.not_before, d.id) AS place
      FROM waiting w JOIN grouped g USING (model) JOIN group_room gr USING (no)
     CROSS JOIN LATERAL (
        SELECT h.* FROM generate_series(0, 9) AS p(priority)
         CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.not_before FROM assayline.jobs j
             WHERE j.provider = :provider AND j.lane = :lane AND j.model = w.model AND j.state = 'scheduled'
               AND j.priority = p.priority AND j.not_before <= clock_timestamp()
             ORDER BY j.not_before, j.id LIMIT gr.n + 1 FOR UPDATE SKIP LOCKED
         ) h LIMIT gr.n + 1 -- one more than there is room for: whether anything is left behind
      ) d
), fitting AS (
    SELECT d.id, row_number() OVER (ORDER BY d.priority, d.not_before, d.id) AS place
      FROM due d JOIN group_room gr USING (no) WHERE d.place <= gr.n
), moved AS (
    UPDATE assayline.jobs j
       SET state = CASE WHEN j.expires_at <= clock_timestamp() THEN 'expired' ELSE 'queued' END,
           reason = CASE WHEN j.expires_at <= clock_timestamp() THEN 'expire_scheduled' ELSE 'release' END,
           release = j.release + 1, copies = 1, queued_at = clock_timestamp(),
           finished_at = CASE WHEN j.expires_at <= clock_timestamp() THEN clock_timestamp() END
     -- An array, not a join: the planner cannot know how few there are, and would read the whole table for a hash.
     WHERE j.id = ANY (ARRAY(SELECT id FROM fitting WHERE place <= (SELECT n FROM room))) AND j.state = 'scheduled'
    RETURNING j.id, j.release, j.provider, j.lane, j.priority, j.not_before, j.state
), left_behind AS (
    SELECT (SELECT count(*) FROM fitting) > r.n OR EXISTS (SELECT FROM due d JOIN group_room gr USING (no)
                                                            WHERE d.place > gr.n AND gr.n = r.n) AS short,
           ARRAY(SELECT DISTINCT d.no FROM due d JOIN group_room gr USING (no) WHERE d.place > gr.n AND gr.n < r.n) AS closed
      FROM room r
)
-- At least one row: what was left behind is told even where nothing moved. short: for want of slots; closed: the groups
-- that had no room for more, by their place in the array.
SELECT m.id, m.release, m.provider, m.lane, m.state, r.slots, r.n AS room, r.slots > 0 AND l.short AS short, l.closed
  FROM room r CROSS JOIN left_behind l LEFT JOIN moved m ON true ORDER BY m.priority, m.not_before, m.id
