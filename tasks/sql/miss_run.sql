-- Puts on record that nobody was there for a whole night; its inputs are taken up by the next one.
INSERT INTO assayline.schedule_runs (schedule, local_date, fold, state, opens_at, closes_at, finished_at)
SELECT :schedule, :local_date, :fold, 'missed', :opens_at, :closes_at, clock_timestamp()
 WHERE EXISTS (SELECT FROM assayline.schedule_runs WHERE schedule = :schedule)
ON CONFLICT (schedule, local_date, fold) DO NOTHING
RETURNING local_date
