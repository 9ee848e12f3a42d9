DROP INDEX assayline.calls_started;
