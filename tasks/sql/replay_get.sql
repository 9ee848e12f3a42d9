-- One replay (of this tenant).
SELECT * FROM assayline.replays
 WHERE id = CAST(:id AS uuid) AND (CAST(:tenant AS text) IS NULL OR tenant = CAST(:tenant AS text))
