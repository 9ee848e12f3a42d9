-- Gives jobs that this incarnation still runs back to wait, and closes their latest calls: one write for the whole
-- process. `:ends` is a JSON array of what is known of each call; `:every`: all jobs, not only those of `:ends`. The
-- attempt is given back: an operator's stop, or a lost reply, is not the job's failure.
WITH ends AS (
    SELECT * FROM jsonb_to_recordset(CAST(:ends AS jsonb))
        AS e(job_id uuid, claim_no integer, call_no smallint, outcome text, latency_s real, input_tokens integer,
             cached_tokens integer, output_tokens integer, cost_usd numeric, estimated boolean, finish_reason text,
             provider_request_id text, error text, error_message text)
), closed AS (
    UPDATE assayline.calls c
       SET outcome = e.outcome, finished_at = clock_timestamp(), latency_s = e.latency_s, input_tokens = e.input_tokens,
           cached_tokens = e.cached_tokens, output_tokens = e.output_tokens, cost_usd = e.cost_usd,
           estimated = e.estimated, finish_reason = e.finish_reason, provider_request_id = e.provider_request_id,
           error = e.error, error_message = e.error_message
      FROM ends e
     WHERE c.job_id = e.job_id AND c.claim_no = e.claim_no AND c.call_no = e.call_no AND c.outcome = 'unknown'
), held AS MATERIALIZED ( -- whoever has a job locked cancels it, or holds it for its transaction: the others do not wait
    SELECT j.id FROM assayline.jobs j
     WHERE j.state = 'running' AND j.incarnation = :incarnation AND j.provider = ANY(CAST(:providers AS text[]))
       AND (:every OR EXISTS (SELECT FROM ends e WHERE e.job_id = j.id AND e.claim_no = j.claim_no))
       FOR UPDATE SKIP LOCKED
), done AS (
    UPDATE assayline.jobs j
       SET state = 'scheduled', reason = 'hand_back', lease_until = NULL, copies = 0, not_before = clock_timestamp(),
           attempts_used = attempts_used - 1
     WHERE j.id = ANY (ARRAY(SELECT h.id FROM held h)) AND j.state = 'running'
    RETURNING j.id
)
SELECT count(*) FROM done
