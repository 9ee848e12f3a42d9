-- Makes jobs whose message could not be published due for publishing again at once, as if it had never been tried.
UPDATE assayline.jobs
   SET copies = 1, queued_at = clock_timestamp() - make_interval(secs => :republish_after_s)
 WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'queued'
