-- What jobs of these analyses used and cost, by analysis and model: by the ledger's latest `:most` calls, and those of the
-- first thousand jobs that are meant, for an analysis may be rare. Calls whose tokens nobody counted say nothing; nor do
-- those that were cut off, by a cancellation or a worker's end: their answers never came, and would count as free.
WITH latest AS (
    SELECT l.job_id, l.claim_no, l.call_no, l.analysis, l.provider, l.model, l.outcome, l.input_tokens, l.output_tokens, l.cost_usd
      FROM assayline.calls l ORDER BY l.job_id DESC LIMIT :most
), own AS (
    SELECT l.job_id, l.claim_no, l.call_no, l.analysis, l.provider, l.model, l.outcome, l.input_tokens, l.output_tokens, l.cost_usd
      FROM (SELECT c.id FROM pg_temp.assayline_candidates c WHERE c.left_out IS NULL ORDER BY c.id LIMIT 1000) c
      JOIN assayline.calls l ON l.job_id = c.id
)
SELECT l.analysis, l.provider || '/' || l.model AS model, count(DISTINCT l.job_id) AS jobs,
       CAST(sum(l.input_tokens) AS bigint) AS input_tokens, CAST(sum(l.output_tokens) AS bigint) AS output_tokens,
       count(DISTINCT l.job_id) FILTER (WHERE l.cost_usd IS NOT NULL) AS priced_jobs, sum(l.cost_usd) AS usd
  FROM (SELECT * FROM latest UNION SELECT * FROM own) l
 WHERE l.analysis = ANY (CAST(:analyses AS text[])) AND l.outcome NOT IN ('unknown', 'not_called', 'cached', 'abandoned')
   AND l.input_tokens IS NOT NULL AND l.output_tokens IS NOT NULL
 GROUP BY l.analysis, l.provider, l.model
