-- Calls that were begun and of which nobody can say how they ended, of the latest `:jobs` jobs that have any; without
-- those of a claim that still runs. With what is needed to say what they may have cost, in bytes, and the worker that
-- made them, as long as it is remembered.
WITH found AS (
    SELECT DISTINCT c.job_id FROM assayline.calls c
     WHERE c.outcome = 'unknown'
       AND (CAST(:tenant AS text) IS NULL OR c.tenant = CAST(:tenant AS text))
       AND (CAST(:analysis AS text) IS NULL OR c.analysis = CAST(:analysis AS text))
       AND (CAST(:provider AS text) IS NULL OR c.provider = CAST(:provider AS text))
       AND (CAST(:before AS uuid) IS NULL OR c.job_id < CAST(:before AS uuid))
       AND (SELECT j.claim_no = c.claim_no AND j.state = 'running' FROM assayline.jobs j WHERE j.id = c.job_id) IS NOT TRUE
     ORDER BY c.job_id DESC LIMIT :jobs
)
SELECT c.job_id, c.claim_no, c.call_no, c.kind, c.tenant, c.analysis, c.provider, c.account, c.model, c.incarnation,
       (to_jsonb(c.started_at AT TIME ZONE 'UTC') #>> '{}') || '+00:00' AS started_at,
       CAST(c.started_at AT TIME ZONE 'UTC' AS date) AS day,
       w.hostname, w.pid, j.state AS job_state, j.prompt_version, j.max_tokens,
       coalesce(octet_length(t.content) + octet_length(CAST(t.context AS text)), 0)
           + coalesce(octet_length(CAST(t.messages AS text)), 0) + coalesce(octet_length(CAST(t.schema AS text)), 0)
           AS input_bytes,
       coalesce(octet_length(CAST(t.context AS text)), 0) + coalesce(octet_length(CAST(t.schema AS text)), 0)
           AS shaping_bytes,
       CASE jsonb_typeof(t.messages) WHEN 'array' THEN jsonb_array_length(t.messages) ELSE 0 END AS messages
  FROM found f JOIN assayline.calls c ON c.job_id = f.job_id JOIN assayline.jobs j ON j.id = c.job_id
  LEFT JOIN assayline.job_contents t ON t.job_id = c.job_id
  LEFT JOIN assayline.workers w ON w.incarnation = c.incarnation
 WHERE c.outcome = 'unknown' AND (j.claim_no = c.claim_no AND j.state = 'running') IS NOT TRUE
   AND (CAST(:provider AS text) IS NULL OR c.provider = CAST(:provider AS text))
 ORDER BY c.job_id DESC, c.claim_no, c.call_no
