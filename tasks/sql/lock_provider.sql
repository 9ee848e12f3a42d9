-- One dispatcher at a time releases for a provider; the lock goes with the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('assayline.release.' || :provider, 0))
