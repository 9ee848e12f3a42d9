-- Says that an incarnation lives, and brings its row (back) into being. Returns whether it was new, and which of the
-- claims `:jobs`, `:claims` are not its own any more, by their places from 1: cancelled, or given to another worker. Each
-- is looked for by its key, one after the other: joined, a planner that takes the table for small would read all of it.
WITH beat AS (
    INSERT INTO assayline.workers (incarnation, hostname, pid, providers, slots, stopping)
    VALUES (:incarnation, :hostname, :pid, CAST(:providers AS text[]), :slots, :stopping)
    ON CONFLICT (incarnation) DO UPDATE SET heartbeat_at = clock_timestamp(), stopping = excluded.stopping
    RETURNING xmax = 0 AS fresh
)
SELECT fresh, ARRAY(
           SELECT h.place::integer
             FROM unnest(CAST(:jobs AS uuid[]), CAST(:claims AS integer[])) WITH ORDINALITY h(id, claim_no, place)
            WHERE (SELECT true FROM assayline.jobs j
                    WHERE j.id = h.id AND j.claim_no = h.claim_no AND j.state IS NOT DISTINCT FROM 'running') IS NULL
       ) AS lost
  FROM beat
