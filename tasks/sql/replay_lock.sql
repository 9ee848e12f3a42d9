-- Lets one replay be made at a time: the next sees which jobs this one means.
SELECT pg_advisory_xact_lock(hashtextextended('assayline.replay', 0))
