-- Idempotency keys of replays: a request that is sent again under its key is answered with the replay that it made, and
-- with the plan that was told then. A key belongs to the tenant whose jobs alone the replay means, or to nobody's.
ALTER TABLE assayline.replays
    ADD COLUMN idempotency_key text,
    ADD COLUMN fingerprint     bytea, -- of the request, by which a repeated key is told from a conflicting one
    ADD COLUMN plan            jsonb; -- what was said of it when it was made
CREATE UNIQUE INDEX replays_key ON assayline.replays (coalesce(tenant, ''), idempotency_key) WHERE idempotency_key IS NOT NULL;
