-- Takes a released job for one worker incarnation and opens its first call in the ledger, as one write.
-- No row comes back where the message is stale: another copy was first, the job moved on, or it has expired.
WITH claimed AS (
    UPDATE assayline.jobs
       SET state = 'running', reason = 'claim', claim_no = claim_no + 1, attempts_used = attempts_used + 1,
           incarnation = :incarnation, started_at = clock_timestamp(),
           lease_until = clock_timestamp() + make_interval(secs => :lease_s)
     WHERE id = :id AND release = :release AND state IS NOT DISTINCT FROM 'queued'
       AND provider = ANY(CAST(:providers AS text[]))
       AND (least(expires_at, deadline_at) <= clock_timestamp()) IS NOT TRUE
    RETURNING *
), opened AS (
    INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account, model,
                                 incarnation, started_at)
    SELECT id, claim_no, 1, 'answer', 'unknown', tenant, analysis, provider, :account, model, incarnation, started_at
      FROM claimed
)
SELECT j.id, j.claim_no, j.analysis, j.tenant, j.lane, j.provider, j.model, j.chain, j.hop, j.prompt_version,
       j.output_format, j.max_tokens, j.temperature, j.max_cost_usd, j.max_attempts, j.attempts_used, j.use_cache,
       j.use_fallback, extract(epoch FROM j.deadline_at - j.started_at)::float8 AS deadline_in_s,
       CASE WHEN j.max_cost_usd IS NOT NULL THEN (
           SELECT coalesce(sum(l.cost_usd), 0) FROM assayline.calls l WHERE l.job_id = :id) END AS spent_usd,
       CASE WHEN j.max_cost_usd IS NOT NULL THEN (
           SELECT count(*) FROM assayline.calls l
            WHERE l.job_id = :id AND l.cost_usd IS NULL AND l.outcome <> 'not_called') END AS unpriced_calls,
       j.causes, c.content, c.context, c.messages, c.schema
  FROM claimed j JOIN assayline.job_contents c ON c.job_id = :id
