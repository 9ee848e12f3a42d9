-- Ends the runs whose window has closed before they came to an end, and that nobody is at any more.
UPDATE assayline.schedule_runs
   SET state = 'failed', lease_until = NULL, finished_at = clock_timestamp()
 WHERE schedule = :schedule AND state = 'running' AND closes_at <= :now AND lease_until < clock_timestamp()
RETURNING local_date
