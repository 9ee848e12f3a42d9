DROP INDEX assayline.calls_unknown;
