-- Ends a claim well: the last call closed, the job succeeded, its result kept; one write. 0: the fence refused it
-- (rescued, cancelled), and then only the call is closed, so that its cost is on record. Run a second time (the connection
-- broke before the reply came) it finds its own end, and changes nothing. An answer from the cache gives back the attempt
-- that its claim had counted: no call was made.
WITH closed AS (
    UPDATE assayline.calls
       SET outcome = :outcome, finished_at = clock_timestamp(), latency_s = :latency_s, input_tokens = :input_tokens,
           cached_tokens = :cached_tokens, output_tokens = :output_tokens, cost_usd = :cost_usd, estimated = :estimated,
           finish_reason = :finish_reason, provider_request_id = :provider_request_id, error = :error,
           error_message = :error_message
     WHERE job_id = :id AND claim_no = :claim_no AND call_no = :call_no
), done AS (
    UPDATE assayline.jobs
       SET state = 'succeeded', reason = 'succeed', finished_at = clock_timestamp(), lease_until = NULL,
           attempts_used = attempts_used - :refund
     WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'running'
    RETURNING id, provider
), kept AS (
    INSERT INTO assayline.results (job_id, data, raw_text, repaired, cached, provider, model, prompt_version, input_tokens,
                                   cached_tokens, output_tokens, cost_usd, latency_s, calls, created_at)
    SELECT id, CAST(:data AS jsonb), CAST(:raw_text AS text), CAST(:repaired AS boolean), CAST(:cached AS boolean),
           provider, :result_model, :prompt_version,
           :total_input_tokens, :total_cached_tokens, :total_output_tokens, CAST(:total_cost_usd AS numeric), :total_latency_s,
           :calls, clock_timestamp() FROM done
    ON CONFLICT (job_id) DO UPDATE SET (data, raw_text, repaired, cached, provider, model, prompt_version, input_tokens,
            cached_tokens, output_tokens, cost_usd, latency_s, calls, created_at) =
        (excluded.data, excluded.raw_text, excluded.repaired, excluded.cached, excluded.provider, excluded.model,
         excluded.prompt_version, excluded.input_tokens, excluded.cached_tokens, excluded.output_tokens,
         excluded.cost_usd, excluded.latency_s, excluded.calls, excluded.created_at)
)
SELECT (SELECT count(*) FROM done)
     + (SELECT count(*) FROM assayline.jobs WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'succeeded') AS count
