-- The schema itself stays: alembic keeps its own table in it.
DROP TABLE assayline.job_options, assayline.catalog_models, assayline.catalog_analyses, assayline.workers,
           assayline.idempotency_keys, assayline.results, assayline.calls, assayline.job_contents, assayline.jobs;
DROP FUNCTION assayline.ensure_partitions(integer);
DROP FUNCTION assayline.uuid7_floor(timestamptz);
DROP FUNCTION assayline.uuid7();
