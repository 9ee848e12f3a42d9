DROP FUNCTION assayline.release_due(text, text, jsonb, jsonb, timestamptz, integer, float8, integer, float8, float8);
DROP FUNCTION assayline.move_released(uuid[]);
DROP FUNCTION assayline.pause(text, text, text);
DROP FUNCTION assayline.resume(text, text);
DROP TABLE assayline.pauses;
CREATE INDEX jobs_due ON assayline.jobs (provider, lane, model, priority, not_before, id) WHERE state = 'scheduled';
DROP INDEX assayline.jobs_expiring;
DROP TRIGGER jobs_wait ON assayline.jobs;
DROP TRIGGER jobs_wait_or_go ON assayline.jobs;
DROP TRIGGER jobs_go ON assayline.jobs;
DROP FUNCTION assayline.keep_waiting();
DROP VIEW assayline.waiting;
DROP TABLE assayline.due;
DROP TABLE assayline.later;

CREATE OR REPLACE FUNCTION assayline.ensure_partitions(months_ahead integer DEFAULT 3) RETURNS integer LANGUAGE plpgsql
SET lock_timeout = '2s' AS
$$
-- Makes the monthly partitions from this month to `months_ahead` from now, and a default one that catches a clock
-- gone wrong. Returns how many it made. Any number of callers may run it at once. Fails with lock_not_available where
-- somebody's transaction stays open: waiting for it would make everybody else wait behind. There are months to try again.
DECLARE
    parent text; leaf text; key text; strays text; month timestamptz; low uuid; high uuid; made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('assayline.ensure_partitions'));
    FOREACH parent IN ARRAY ARRAY['jobs', 'job_contents', 'calls', 'results'] LOOP
        IF to_regclass(format('assayline.%I', parent || '_default')) IS NULL THEN
            EXECUTE format('CREATE TABLE assayline.%I PARTITION OF assayline.%I DEFAULT', parent || '_default', parent);
            made := made + 1;
        END IF;
        FOR ahead IN 0..months_ahead LOOP
            month := (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead)) AT TIME ZONE 'UTC';
            leaf := format('%s_%s', parent, to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'));
            CONTINUE WHEN to_regclass(format('assayline.%I', leaf)) IS NOT NULL;
            EXECUTE format('CREATE TABLE assayline.%I (LIKE assayline.%I INCLUDING ALL)', leaf, parent);
            -- A job is updated four times in a life of seconds: vacuum by count, early and often.
            EXECUTE format('ALTER TABLE assayline.%I SET (autovacuum_vacuum_scale_factor = 0.02,
                autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.05)', leaf);
            -- Rows of this month that came before it had a partition lie in the default one: they move.
            low := assayline.uuid7_floor(month);
            high := assayline.uuid7_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
            key := CASE parent WHEN 'jobs' THEN 'id' ELSE 'job_id' END;
            strays := parent || '_default';
            EXECUTE format('LOCK TABLE assayline.%I', strays);
            EXECUTE format('WITH moved AS (DELETE FROM assayline.%I WHERE %I >= %L AND %I < %L RETURNING *)
                INSERT INTO assayline.%I SELECT * FROM moved', strays, key, low, key, high, leaf);
            EXECUTE format('ALTER TABLE assayline.%I ATTACH PARTITION assayline.%I FOR VALUES FROM (%L) TO (%L)',
                parent, leaf, low, high);
            -- Content is written once and read once; compressing a page of it costs more than it saves.
            IF parent = 'job_contents' THEN
                EXECUTE format('ALTER TABLE assayline.%I SET (toast_tuple_target = 8160)', leaf);
            END IF;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

CREATE FUNCTION assayline.release_due(
    at_provider text, in_lane text, groups jsonb, most integer, backlog_share float8, least_backlog integer, bulk_share float8,
    dead_after_s float8
) RETURNS TABLE (
    id uuid, release integer, provider text, lane text, state text, slots integer, room integer, spare integer[],
    short boolean, closed integer[]
) LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS
$$
-- Releases due jobs of one queue, most urgent first, as many as there is room for; a job that is no longer wanted
-- expires instead. A function, for it is what a job waits for: one round trip, its plans kept. No row comes back where
-- another dispatcher holds the provider's lock. The lock goes with the transaction; each statement below sees what was
-- committed before it began, so the counts are exact.
--
-- Room of the queue: what is queued or running may not exceed the provider's live slots and a short backlog, so that a
-- worker finds its next message without a dispatcher's pass between; bulk keeps to its share of the slots.
-- Room of a limit group: what is queued or running of its models may not exceed `most`, and no more than `more` of them
-- are released. The groups come as a JSON array of {models, most, more}; a group without models holds those that no
-- other names. What no group holds has the queue's room.
--
-- At least one row: what was left behind is told even where nothing moved. slots: live. room: of the queue, before.
-- spare: what each group, by its place in the array, still has room for. short: jobs were left behind for want of slots.
-- closed: the groups that had no room for more.
#variable_conflict use_column
DECLARE
    live integer;
    active integer;
    active_bulk integer;
    active_by_model jsonb;
    queue_room integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('assayline.release.' || at_provider, 0)) THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(w.slots), 0) INTO live FROM assayline.workers w
     WHERE at_provider = ANY(w.providers) AND NOT w.stopping
       AND w.heartbeat_at > clock_timestamp() - make_interval(secs => dead_after_s);
    SELECT coalesce(sum(a.jobs), 0), coalesce(sum(a.bulk), 0), jsonb_object_agg(a.model, a.jobs)
      INTO active, active_bulk, active_by_model
      FROM (SELECT j.model, count(*) AS jobs, count(*) FILTER (WHERE j.lane = 'bulk') AS bulk FROM assayline.jobs j
             WHERE j.provider = at_provider AND j.lane IN ('interactive', 'bulk') AND j.state IN ('queued', 'running')
             GROUP BY j.model) a;
    IF live > 0 THEN
        queue_room := least(most, live + greatest(least_backlog, ceil(live * backlog_share)::integer) - active);
        IF in_lane = 'bulk' THEN
            queue_room := least(queue_room, greatest(1, floor(live * bulk_share)::integer) - active_bulk);
        END IF;
        queue_room := greatest(0, queue_room);
    END IF;
    RETURN QUERY
WITH RECURSIVE given AS MATERIALIZED (
    SELECT g.no::integer AS no, g.models, g.most, g.more
      FROM ROWS FROM (jsonb_to_recordset(groups) AS (models text[], most integer, more integer))
           WITH ORDINALITY AS g(models, most, more, no)
), waiting AS ( -- the models that wait, one look into the index each
    (SELECT j.model FROM assayline.jobs j
      WHERE j.provider = at_provider AND j.lane = in_lane AND j.state = 'scheduled'
      ORDER BY j.model LIMIT 1)
    UNION ALL
    SELECT (SELECT j.model FROM assayline.jobs j
             WHERE j.provider = at_provider AND j.lane = in_lane AND j.state = 'scheduled'
               AND j.model > w.model
             ORDER BY j.model LIMIT 1)
      FROM waiting w WHERE w.model IS NOT NULL
), working AS MATERIALIZED (
    SELECT a.key AS model, a.value::integer AS jobs FROM jsonb_each_text(active_by_model) a
), grouped AS MATERIALIZED ( -- 0: no group
    SELECT m.model, coalesce(g.no, rest.no, 0) AS no
      FROM (SELECT w.model FROM waiting w WHERE w.model IS NOT NULL UNION SELECT w.model FROM working w) m
      LEFT JOIN given g ON m.model = ANY(g.models) LEFT JOIN given rest ON rest.models IS NULL
), group_room AS MATERIALIZED (
    SELECT g.no, greatest(0, least(queue_room, g.more, g.most - (
               SELECT coalesce(sum(w.jobs), 0) FROM working w JOIN grouped m USING (model) WHERE m.no = g.no)))::integer AS n
      FROM (SELECT g.no, g.most, g.more FROM given g UNION ALL SELECT 0, NULL, NULL) g
), due AS (
    SELECT d.*, m.model, m.no, row_number() OVER (PARTITION BY m.no ORDER BY d.priority, d.not_before, d.id) AS place
      FROM waiting w JOIN grouped m USING (model) JOIN group_room gr USING (no)
     CROSS JOIN LATERAL (
        SELECT h.* FROM generate_series(0, 9) AS p(priority)
         CROSS JOIN LATERAL (
            SELECT j.id, j.priority, j.not_before FROM assayline.jobs j
             WHERE j.provider = at_provider AND j.lane = in_lane AND j.model = w.model
               AND j.state = 'scheduled' AND j.priority = p.priority AND j.not_before <= clock_timestamp()
             ORDER BY j.not_before, j.id LIMIT gr.n + 1
         ) h LIMIT gr.n + 1 -- one more than there is room for: whether anything is left behind
      ) d
), fitting AS (
    SELECT d.model, d.no, row_number() OVER (ORDER BY d.priority, d.not_before, d.id) AS place
      FROM due d JOIN group_room gr USING (no) WHERE d.place <= gr.n
), quota AS MATERIALIZED (
    SELECT f.model, f.no, count(*)::integer AS n FROM fitting f WHERE f.place <= queue_room GROUP BY f.model, f.no
), held AS ( -- no more than are released; others' locks are passed by
    SELECT d.id FROM quota q
     CROSS JOIN LATERAL (
        SELECT h.id FROM generate_series(0, 9) AS p(priority)
         CROSS JOIN LATERAL (
            SELECT j.id FROM assayline.jobs j
             WHERE j.provider = at_provider AND j.lane = in_lane AND j.model = q.model
               AND j.state = 'scheduled' AND j.priority = p.priority AND j.not_before <= clock_timestamp()
             ORDER BY j.not_before, j.id LIMIT q.n FOR UPDATE SKIP LOCKED
         ) h LIMIT q.n
      ) d
), moved AS (
    UPDATE assayline.jobs j
       SET state = CASE WHEN least(j.expires_at, j.deadline_at) <= clock_timestamp() THEN 'expired' ELSE 'queued' END,
           reason = CASE WHEN least(j.expires_at, j.deadline_at) <= clock_timestamp() THEN 'expire_scheduled' ELSE 'release' END,
           release = j.release + 1, copies = 1, queued_at = clock_timestamp(),
           finished_at = CASE WHEN least(j.expires_at, j.deadline_at) <= clock_timestamp() THEN clock_timestamp() END
     -- An array, not a join: the planner cannot know how few there are, and would read the whole table for a hash.
     WHERE j.id = ANY (ARRAY(SELECT h.id FROM held h)) AND j.state = 'scheduled'
    RETURNING j.id, j.release, j.provider, j.lane, j.priority, j.not_before, j.state
), left_behind AS (
    SELECT (SELECT count(*) FROM fitting) > queue_room
           OR EXISTS (SELECT FROM due d JOIN group_room gr USING (no) WHERE d.place > gr.n AND gr.n = queue_room) AS short,
           ARRAY(SELECT DISTINCT d.no FROM due d JOIN group_room gr USING (no)
                  WHERE d.place > gr.n AND gr.n < queue_room) AS closed,
           ARRAY(SELECT gr.n - coalesce((SELECT sum(q.n) FROM quota q WHERE q.no = gr.no), 0)::integer
                   FROM group_room gr WHERE gr.no > 0 ORDER BY gr.no) AS spare
)
SELECT m.id, m.release, m.provider, m.lane, m.state, live, queue_room, l.spare, live > 0 AND l.short, l.closed
  FROM left_behind l LEFT JOIN moved m ON true ORDER BY m.priority, m.not_before, m.id;
END $$;

CREATE OR REPLACE FUNCTION public.assayline_stage() RETURNS void LANGUAGE plpgsql AS
$$
-- Prepares this session's staging tables; COPY or INSERT (ord, analysis, content, options) into assayline_staging, each
-- `ord` once, then call assayline_enqueue_staged() in the same transaction. They are empty again after the commit.
BEGIN
    IF to_regclass('pg_temp.assayline_staging') IS NULL THEN
        -- Rows live for one statement: leave them whole in their page rather than compress them.
        CREATE TEMP TABLE assayline_staging (ord bigint NOT NULL, analysis text, content text, options jsonb)
            WITH (toast_tuple_target = 8160) ON COMMIT DELETE ROWS;
        CREATE TEMP TABLE assayline_rows ON COMMIT DELETE ROWS AS
            SELECT 0::bigint AS ord, ''::text AS analysis, NULL::uuid AS job_id, r.*
              FROM (SELECT (NULL::assayline.resolved_row).*) r WITH NO DATA;
        CREATE TEMP TABLE assayline_shapes ON COMMIT DELETE ROWS AS
            SELECT NULL::jsonb AS shape, NULL::text[] AS kinds, j.* FROM assayline.jobs j WITH NO DATA;
    END IF;
END $$;
