-- Which of the named jobs there are (of this tenant).
SELECT id FROM assayline.jobs
 WHERE id = ANY (CAST(:ids AS uuid[])) AND (CAST(:tenant AS text) IS NULL OR tenant = CAST(:tenant AS text))
