-- Closes calls of earlier claims whose ends were found in the journal: `:ends` is a JSON array of them. They were made,
-- whoever owns the job now. One that was closed meanwhile, by a worker taken for dead, stays as it is. Returns those
-- that were `unknown` until now.
WITH ends AS (
    SELECT * FROM jsonb_to_recordset(CAST(:ends AS jsonb))
        AS e(claim_no integer, call_no smallint, outcome text, latency_s real, input_tokens integer,
             cached_tokens integer, output_tokens integer, cost_usd numeric, estimated boolean, finish_reason text,
             provider_request_id text, error text, error_message text)
)
UPDATE assayline.calls c
   SET outcome = e.outcome, finished_at = clock_timestamp(), latency_s = e.latency_s, input_tokens = e.input_tokens,
       cached_tokens = e.cached_tokens, output_tokens = e.output_tokens, cost_usd = e.cost_usd,
       estimated = e.estimated, finish_reason = e.finish_reason, provider_request_id = e.provider_request_id,
       error = e.error, error_message = e.error_message
  FROM ends e
 WHERE c.job_id = :id AND c.claim_no = e.claim_no AND c.call_no = e.call_no AND c.claim_no < :claim_no
   AND c.outcome = 'unknown'
RETURNING c.claim_no, c.call_no
