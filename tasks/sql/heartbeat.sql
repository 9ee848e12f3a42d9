-- Says that an incarnation lives, and brings its row (back) into being. Returns whether it was new.
INSERT INTO assayline.workers (incarnation, hostname, pid, providers, slots, stopping)
VALUES (:incarnation, :hostname, :pid, CAST(:providers AS text[]), :slots, :stopping)
ON CONFLICT (incarnation) DO UPDATE SET heartbeat_at = clock_timestamp(), stopping = excluded.stopping
RETURNING xmax = 0 AS fresh
