-- Ends a claim badly: the last call closed, the job a dead letter with all its causes; one write. The text of an
-- answer that was no result is kept beside it. 0: the fence refused it. Run a second time it finds its own end.
WITH closed AS (
    UPDATE assayline.calls
       SET outcome = :outcome, finished_at = clock_timestamp(), latency_s = :latency_s, input_tokens = :input_tokens,
           cached_tokens = :cached_tokens, output_tokens = :output_tokens, cost_usd = :cost_usd, estimated = :estimated,
           finish_reason = :finish_reason, provider_request_id = :provider_request_id, error = :error,
           error_message = :error_message
     WHERE job_id = :id AND claim_no = :claim_no AND call_no = :call_no
), done AS (
    UPDATE assayline.jobs
       SET state = 'failed', reason = :reason, finished_at = clock_timestamp(), lease_until = NULL,
           attempts_used = attempts_used - :refund, causes = causes || CAST(:cause AS jsonb)
     WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'running'
    RETURNING id, provider, model
), kept AS (
    INSERT INTO assayline.results (job_id, data, raw_text, repaired, provider, model, prompt_version, input_tokens,
                                   cached_tokens, output_tokens, cost_usd, latency_s, calls, created_at)
    SELECT id, NULL, CAST(:raw_text AS text), false, provider, model, :prompt_version, :total_input_tokens,
           :total_cached_tokens, :total_output_tokens, CAST(:total_cost_usd AS numeric), :total_latency_s, :calls, clock_timestamp()
      FROM done WHERE CAST(:raw_text AS text) IS NOT NULL
    ON CONFLICT (job_id) DO UPDATE SET raw_text = excluded.raw_text, created_at = excluded.created_at
)
SELECT (SELECT count(*) FROM done)
     + (SELECT count(*) FROM assayline.jobs WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'failed' AND reason = :reason) AS count
