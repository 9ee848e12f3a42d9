-- What there is of a kind to pause: what the catalog has that the dispatcher has mirrored, and the analyses of jobs that
-- are due, which it may no longer have.
WITH providers AS (
    SELECT DISTINCT split_part(m.name, '/', 1) AS name FROM assayline.catalog_models m
)
SELECT p.name FROM providers p WHERE CAST(:kind AS text) = 'provider'
UNION
SELECT p.name || '.' || lane FROM providers p, unnest(ARRAY['interactive', 'bulk']) AS lane
 WHERE CAST(:kind AS text) = 'queue'
UNION
SELECT a.name FROM assayline.catalog_analyses a WHERE CAST(:kind AS text) = 'analysis'
UNION
SELECT d.analysis FROM assayline.due d WHERE CAST(:kind AS text) = 'analysis'
ORDER BY 1
