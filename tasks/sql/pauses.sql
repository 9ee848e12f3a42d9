-- All pauses.
SELECT kind, name, why, since FROM assayline.pauses ORDER BY kind, name
