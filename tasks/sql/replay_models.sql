-- The models of configured providers.
SELECT name FROM assayline.catalog_models ORDER BY name
