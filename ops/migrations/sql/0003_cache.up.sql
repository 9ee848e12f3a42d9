-- Answers from the cache: they are in the ledger, at price 0, and the result says that it is one.

ALTER TABLE assayline.calls DROP CONSTRAINT calls_outcome_check,
    ADD CONSTRAINT calls_outcome_check
        CHECK (outcome IN ('unknown', 'succeeded', 'failed', 'not_called', 'abandoned', 'cached'));
ALTER TABLE assayline.results ADD COLUMN cached boolean NOT NULL DEFAULT false;
