-- One row if jobs of this analysis can be enqueued: a dispatcher has mirrored a catalog that has it.
SELECT name FROM assayline.catalog_analyses WHERE name = :analysis
