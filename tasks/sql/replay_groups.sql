-- The jobs that are meant, by analysis and chain, the commonest first.
SELECT analysis, chain, count(*) AS jobs FROM pg_temp.assayline_candidates WHERE left_out IS NULL
 GROUP BY analysis, chain ORDER BY count(*) DESC, analysis, chain
