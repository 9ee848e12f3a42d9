-- The replay that an idempotency key has made (of this tenant's jobs alone; of anybody's).
SELECT * FROM assayline.replays
 WHERE coalesce(tenant, '') = coalesce(CAST(:tenant AS text), '') AND idempotency_key = CAST(:key AS text)
