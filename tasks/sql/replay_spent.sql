-- What the calls of the jobs that are meant did cost, and of how many nobody knows it.
SELECT coalesce(sum(l.cost_usd), 0) AS usd,
       count(*) FILTER (WHERE l.cost_usd IS NULL AND l.outcome NOT IN ('not_called', 'cached')) AS unpriced_calls
  FROM pg_temp.assayline_candidates c JOIN assayline.calls l ON l.job_id = c.id WHERE c.left_out IS NULL
