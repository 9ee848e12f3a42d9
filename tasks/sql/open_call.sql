-- Closes the claim's latest call and opens the next one (a repair's re-ask), if the fence holds and the budget allows.
-- The close is written whatever the fence says: the call was made and may have cost money. Run a second time (the
-- connection broke before the first answer came) it finds the call open, and neither counts nor opens another.
WITH standing AS (
    SELECT EXISTS (SELECT FROM assayline.calls
                    WHERE job_id = :id AND claim_no = :claim_no AND call_no = CAST(:call_no AS integer) + 1) AS opened,
           EXISTS (SELECT FROM assayline.jobs
                    WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'running') AS owned
), closed AS (
    UPDATE assayline.calls
       SET outcome = :outcome, finished_at = clock_timestamp(), latency_s = :latency_s, input_tokens = :input_tokens,
           cached_tokens = :cached_tokens, output_tokens = :output_tokens, cost_usd = :cost_usd, estimated = :estimated,
           finish_reason = :finish_reason, provider_request_id = :provider_request_id, error = :error,
           error_message = :error_message
     WHERE job_id = :id AND claim_no = :claim_no AND call_no = :call_no
), counted AS (
    UPDATE assayline.jobs SET attempts_used = attempts_used + 1
     WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'running' AND attempts_used < max_attempts
       AND NOT (SELECT opened FROM standing)
    RETURNING *
), opened AS (
    INSERT INTO assayline.calls (job_id, claim_no, call_no, kind, outcome, tenant, analysis, provider, account, model,
                                 incarnation, started_at)
    SELECT id, claim_no, CAST(:call_no AS integer) + 1, :kind, 'unknown', tenant, analysis, provider, :account, model,
           incarnation, clock_timestamp() FROM counted
)
SELECT owned AND (opened OR EXISTS (SELECT FROM counted)) AS opened, owned FROM standing
