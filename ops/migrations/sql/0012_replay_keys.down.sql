DROP INDEX assayline.replays_key;
ALTER TABLE assayline.replays DROP COLUMN idempotency_key, DROP COLUMN fingerprint, DROP COLUMN plan;
