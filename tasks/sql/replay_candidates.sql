-- Finds the jobs of a replay's filter and judges each; `:most` of them are meant at most, the oldest. A filter that is not
-- given is folded away by the planner. Of named jobs all are judged, that it may be said why one is left out.
--
-- Of a line (a job, what replays it, what replays that) one job is meant at most: the latest that is found. None is where
-- a running or paused replay has the line in hand; nor, unless `:again`, where a replay of it waits, runs or succeeded
-- that is later, or was made with the same changes: the same command twice would replay its own replays.
INSERT INTO pg_temp.assayline_candidates (id, root_id, analysis, chain, left_out, held_by)
WITH found AS MATERIALIZED (
    SELECT j.id, j.analysis, j.chain, j.state, coalesce(up.root_id, j.id) AS root_id
      FROM assayline.jobs j LEFT JOIN assayline.replay_jobs up ON up.replay_id = j.replay_id AND up.job_id = j.replay_of
     WHERE (CAST(:ids AS uuid[]) IS NULL OR j.id = ANY (CAST(:ids AS uuid[])))
       AND (CAST(:ids AS uuid[]) IS NOT NULL OR j.state = ANY (CAST(:states AS text[])))
       AND (CAST(:tenant AS text) IS NULL OR j.tenant = CAST(:tenant AS text))
       AND (CAST(:source AS text) IS NULL OR j.source = CAST(:source AS text))
       AND (CAST(:analyses AS text[]) IS NULL OR j.analysis = ANY (CAST(:analyses AS text[])))
       AND (CAST(:providers AS text[]) IS NULL OR j.provider = ANY (CAST(:providers AS text[])))
       AND (CAST(:models AS text[]) IS NULL OR j.model = ANY (CAST(:models AS text[]))
            OR j.provider || '/' || j.model = ANY (CAST(:models AS text[])))
       AND (CAST(:tags AS text[]) IS NULL OR j.tags && CAST(:tags AS text[]))
       AND (CAST(:errors AS text[]) IS NULL OR j.reason = ANY (CAST(:errors AS text[]))
            OR jsonb_path_query_first(j.causes, '$[last].error') #>> '{}' = ANY (CAST(:errors AS text[])))
       AND (CAST(:created_after AS timestamptz) IS NULL OR j.created_at >= CAST(:created_after AS timestamptz))
       AND (CAST(:created_before AS timestamptz) IS NULL OR j.created_at < CAST(:created_before AS timestamptz))
       AND (CAST(:ended_after AS timestamptz) IS NULL OR j.finished_at >= CAST(:ended_after AS timestamptz))
       AND (CAST(:ended_before AS timestamptz) IS NULL OR j.finished_at < CAST(:ended_before AS timestamptz))
       -- An id is a time of birth: months that cannot have such a job are not looked into. An hour's slack, for a batch has
       -- one `created_at` and ids of its own.
       AND (CAST(:created_after AS timestamptz) IS NULL OR j.id >= assayline.uuid7_floor(
                greatest(CAST(:created_after AS timestamptz), to_timestamp(3600)) - interval '1 hour'))
       AND (coalesce(CAST(:created_before AS timestamptz), CAST(:ended_before AS timestamptz)) IS NULL OR j.id < assayline.uuid7_floor(
                least(CAST(:created_before AS timestamptz), CAST(:ended_before AS timestamptz)) + interval '1 hour'))
), lined AS (
    SELECT f.*, row_number() OVER (PARTITION BY f.root_id ORDER BY f.id DESC) = 1 AS latest FROM found f
), judged AS MATERIALIZED (
    SELECT l.id, l.root_id, l.analysis, l.chain, held.replay_id AS held_by,
           CASE WHEN l.state NOT IN ('succeeded', 'failed', 'cancelled', 'expired') THEN 'not_ended'
                WHEN l.state <> ALL (CAST(:states AS text[])) THEN 'other_state'
                WHEN held.replay_id IS NOT NULL THEN 'replayed'
                WHEN NOT l.latest THEN 'superseded'
                WHEN NOT EXISTS (SELECT FROM assayline.job_contents c WHERE c.job_id = l.id) THEN 'erased'
                WHEN NOT EXISTS (SELECT FROM assayline.catalog_analyses a WHERE a.name = l.analysis) THEN 'unknown_analysis'
           END AS left_out
      FROM lined l LEFT JOIN LATERAL (
        SELECT i.replay_id
          FROM assayline.replay_jobs i JOIN assayline.replays r ON r.id = i.replay_id
          LEFT JOIN assayline.jobs c ON c.id = i.new_job_id
         WHERE i.root_id = l.root_id
           AND CASE WHEN i.new_job_id IS NULL THEN i.problem IS NULL AND r.state IN ('running', 'paused')
                    ELSE NOT CAST(:again AS boolean) AND c.state NOT IN ('failed', 'cancelled', 'expired')
                         AND (c.id > l.id OR r.changes = CAST(:changes AS jsonb)) END
         ORDER BY i.new_job_id IS NULL DESC, i.new_job_id DESC LIMIT 1
      ) held ON true
)
SELECT j.id, j.root_id, j.analysis, j.chain,
       CASE WHEN j.left_out IS NULL AND row_number() OVER (PARTITION BY j.left_out IS NULL ORDER BY j.id) > CAST(:most AS integer)
            THEN 'over_limit' ELSE j.left_out END, j.held_by
  FROM judged j
