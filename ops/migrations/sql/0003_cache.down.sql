ALTER TABLE assayline.results DROP COLUMN cached;
UPDATE assayline.calls SET outcome = 'not_called' WHERE outcome = 'cached';
ALTER TABLE assayline.calls DROP CONSTRAINT calls_outcome_check,
    ADD CONSTRAINT calls_outcome_check CHECK (outcome IN ('unknown', 'succeeded', 'failed', 'not_called', 'abandoned'));
