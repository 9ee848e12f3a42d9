-- Lets a replay (of this tenant) that has not ended run, pause or stop. A portion that is being made is waited for.
UPDATE assayline.replays
   SET state = :state, problem = NULL, next_at = greatest(next_at, clock_timestamp()),
       finished_at = CASE WHEN CAST(:state AS text) = 'stopped' THEN clock_timestamp() END
 WHERE id = CAST(:id AS uuid) AND (CAST(:tenant AS text) IS NULL OR tenant = CAST(:tenant AS text))
   AND state IN ('running', 'paused')
RETURNING *
