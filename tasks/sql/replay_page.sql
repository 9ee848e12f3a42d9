-- A page of replays, newest first; `:before` is the last id seen.
SELECT * FROM assayline.replays
 WHERE (CAST(:states AS text[]) IS NULL OR state = ANY (CAST(:states AS text[])))
   AND (CAST(:tenant AS text) IS NULL OR tenant = CAST(:tenant AS text))
   AND (CAST(:before AS uuid) IS NULL OR id < CAST(:before AS uuid))
 ORDER BY id DESC LIMIT :limit
