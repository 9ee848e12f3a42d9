-- Closes a claim's latest call, and nothing else: its job is no longer the claim's, and what the call cost counts.
WITH closed AS (
    UPDATE assayline.calls
       SET outcome = :outcome, finished_at = clock_timestamp(), latency_s = :latency_s, input_tokens = :input_tokens,
           cached_tokens = :cached_tokens, output_tokens = :output_tokens, cost_usd = :cost_usd, estimated = :estimated,
           finish_reason = :finish_reason, provider_request_id = :provider_request_id, error = :error,
           error_message = :error_message
     WHERE job_id = :id AND claim_no = :claim_no AND call_no = :call_no
    RETURNING job_id
)
SELECT count(*) FROM closed
