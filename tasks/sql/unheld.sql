-- The claims of an incarnation, made `:unheld_after_s` ago or earlier, of which it knows nothing: not among `:jobs`.
SELECT id, claim_no FROM assayline.jobs
 WHERE state = 'running' AND provider = ANY (CAST(:providers AS text[])) AND incarnation = :incarnation
   AND started_at < clock_timestamp() - make_interval(secs => :unheld_after_s)
   AND (id, claim_no) NOT IN (SELECT * FROM unnest(CAST(:jobs AS uuid[]), CAST(:claims AS integer[])))
