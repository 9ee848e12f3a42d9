-- Writes a replay down, and which jobs it means.
WITH made AS (
    INSERT INTO assayline.replays (id, state, tenant, filter, changes, rate_per_min, made_by, note, jobs, next_at, created_at,
                                   idempotency_key, fingerprint, plan)
    SELECT assayline.uuid7(), 'running', CAST(:tenant AS text), CAST(:filter AS jsonb), CAST(:changes AS jsonb),
           CAST(:rate_per_min AS integer), CAST(:made_by AS text), CAST(:note AS text), count(*), clock_timestamp(),
           clock_timestamp(), CAST(:key AS text), CAST(:fingerprint AS bytea), CAST(:plan AS jsonb)
      FROM pg_temp.assayline_candidates WHERE left_out IS NULL
    RETURNING *
), meant AS (
    INSERT INTO assayline.replay_jobs (replay_id, job_id, root_id)
    SELECT made.id, c.id, c.root_id FROM made, pg_temp.assayline_candidates c WHERE c.left_out IS NULL ORDER BY c.id
)
SELECT * FROM made
