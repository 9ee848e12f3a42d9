-- Puts a claimed job back to wait: a retry, a fallback to another hop, or a snooze (which gives its attempt back).
-- 0 rows: the fence refused it.
WITH closed AS (
    UPDATE assayline.calls
       SET outcome = :outcome, finished_at = clock_timestamp(), latency_s = :latency_s, input_tokens = :input_tokens,
           cached_tokens = :cached_tokens, output_tokens = :output_tokens, cost_usd = :cost_usd, estimated = :estimated,
           finish_reason = :finish_reason, provider_request_id = :provider_request_id, error = :error,
           error_message = :error_message
     WHERE job_id = :id AND claim_no = :claim_no AND call_no = :call_no
), done AS (
    UPDATE assayline.jobs
       SET state = 'scheduled', reason = :reason, lease_until = NULL, copies = 0,
           not_before = clock_timestamp() + make_interval(secs => :delay_s),
           hop = :hop, provider = :provider, model = :model, attempts_used = attempts_used - :refund,
           causes = causes || CAST(:cause AS jsonb)
     WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'running'
    RETURNING id
)
SELECT count(*) FROM done
