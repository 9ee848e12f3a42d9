-- As `replay_lock`, but says at once whether it was to be had.
SELECT pg_try_advisory_xact_lock(hashtextextended('assayline.replay', 0))
