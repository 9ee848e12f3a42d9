DROP TABLE assayline.schedule_runs;
