-- Puts on record that nobody was there for a whole night; its inputs are taken up by the next one. No row comes back where
-- the night is on record, or no night before it is: the schedule is newer.
INSERT INTO assayline.schedule_runs (schedule, local_date, fold, state, opens_at, closes_at, finished_at)
SELECT :schedule, :local_date, :fold, 'missed', :opens_at, :closes_at, clock_timestamp()
 WHERE EXISTS (SELECT FROM assayline.schedule_runs WHERE schedule = :schedule AND local_date < :local_date)
ON CONFLICT (schedule, local_date, fold) DO NOTHING
RETURNING local_date
