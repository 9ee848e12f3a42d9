-- Cancelling, told at once to whom it concerns, and of many jobs in portions. What is told goes by NOTIFY, at commit:
--
--   assayline_worker.<incarnation>   `cancel <job id> <claim_no>`: to the worker that runs the job
--   assayline_ended                  `cancelled <job id> …`: to whoever tells those who wait (the dispatcher)
--
-- Both are courtesies: a worker finds out by its heartbeat as well, and those who wait look at the job now and then.

CREATE FUNCTION assayline.tell_cancelled(ids uuid[], workers uuid[], claim_nos integer[]) RETURNS void LANGUAGE plpgsql AS
$$
-- Tells of jobs just cancelled. `workers`: who runs each, NULL where nobody does; `claim_nos`: under which claim.
BEGIN
    PERFORM pg_notify('assayline_worker.' || c.worker, format('cancel %s %s', c.id, c.claim_no))
       FROM unnest(ids, workers, claim_nos) c(id, worker, claim_no) WHERE c.worker IS NOT NULL;
    -- A payload has less than 8,000 bytes: two hundred ids are 7,400.
    PERFORM pg_notify('assayline_ended', 'cancelled ' || string_agg(c.id::text, ' '))
       FROM unnest(ids) WITH ORDINALITY c(id, n) GROUP BY (c.n - 1) / 200;
END $$;

CREATE OR REPLACE FUNCTION public.assayline_cancel(id uuid, tenant text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE AS
$$
-- Cancels a job that has not ended, and returns the state it is in then; NULL where there is no such job (of this
-- tenant). At commit the worker that runs it hears of it, and cuts its call off: what that cost is still recorded.
#variable_conflict use_variable
DECLARE
    stands text; how text; worker uuid; fence integer;
BEGIN
    UPDATE assayline.jobs j SET state = 'cancelled', reason = 'cancel_' || j.state, finished_at = clock_timestamp(),
           lease_until = NULL
     WHERE j.id = assayline_cancel.id AND (assayline_cancel.tenant IS NULL OR j.tenant = assayline_cancel.tenant)
       AND j.state IN ('scheduled', 'queued', 'running')
    RETURNING j.reason, j.incarnation, j.claim_no INTO how, worker, fence;
    IF FOUND THEN
        PERFORM assayline.tell_cancelled(ARRAY[id], ARRAY[CASE how WHEN 'cancel_running' THEN worker END], ARRAY[fence]);
        RETURN 'cancelled';
    END IF;
    SELECT j.state INTO stands FROM assayline.jobs j
     WHERE j.id = assayline_cancel.id AND (assayline_cancel.tenant IS NULL OR j.tenant = assayline_cancel.tenant);
    RETURN stands;
END $$;

-- By filter -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.cancel_filters() RETURNS TABLE (name text, kinds text[], condition text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$
-- What a filter may name, as which kinds of JSON, and the condition on a job `j` that it is: $1 is the filter, $2 and
-- $3 its times.
    VALUES ('tenant', '{string}'::text[], 'j.tenant = $1 ->> ''tenant'''),
           ('analysis', '{string}', 'j.analysis = $1 ->> ''analysis'''),
           ('provider', '{string}', 'j.provider = $1 ->> ''provider'''),
           ('state', '{string,array}', NULL), -- as an array of its own: `cancel_states`
           ('source', '{string}', 'j.source = $1 ->> ''source'''),
           ('subject', '{string}', 'j.subject = $1 ->> ''subject'''),
           ('tag', '{string}', '$1 ->> ''tag'' = ANY (j.tags)'),
           ('lane', '{string}', 'j.lane = $1 ->> ''lane'''),
           ('created_after', '{string}', 'j.created_at >= $2'),
           ('created_before', '{string}', 'j.created_at < $3'),
           ('all', '{boolean}', NULL)
$$;

CREATE FUNCTION assayline.cancel_states(filter jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS
$$
-- The states that a filter means: those it names, or all that a job can be cancelled in.
    SELECT CASE jsonb_typeof(filter -> 'state')
               WHEN 'string' THEN ARRAY[filter ->> 'state']
               WHEN 'array' THEN ARRAY(SELECT DISTINCT jsonb_array_elements_text(filter -> 'state'))
               ELSE ARRAY['scheduled', 'queued', 'running'] END
$$;

CREATE FUNCTION assayline.cancel_filter(given jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS
$$
-- A filter without what is null, or `all: false`: judged. One that names nothing is refused, for it means every job;
-- who wants that says `{"all": true}`.
DECLARE
    filter jsonb; problem text; place text;
BEGIN
    IF jsonb_typeof(given) IS DISTINCT FROM 'object' THEN
        PERFORM assayline.refuse('AL002', '', 'filter: must be an object');
    ELSIF octet_length(given::text) > 10000 THEN
        PERFORM assayline.refuse('AL002', '', format('filter: %s bytes, and 10000 is the most', octet_length(given::text)));
    END IF;
    filter := jsonb_strip_nulls(given);
    SELECT CASE WHEN f.name IS NULL THEN format('%s: is no filter; these are: %s', left(g.name, 60),
                                                (SELECT string_agg(k.name, ', ') FROM assayline.cancel_filters() k))
                WHEN jsonb_typeof(g.value) <> ALL (f.kinds)
                THEN format('%s: must be %s, not %s', g.name, array_to_string(f.kinds, ' or '), jsonb_typeof(g.value))
                WHEN jsonb_typeof(g.value) = 'string' AND length(g.value #>> '{}') NOT BETWEEN 1 AND 500
                THEN format('%s: 1 to 500 characters', g.name) END
      INTO problem
      FROM jsonb_each(filter) g(name, value) LEFT JOIN assayline.cancel_filters() f ON f.name = g.name
     ORDER BY 1 LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM assayline.refuse('AL002', '', problem);
    END IF;
    IF filter -> 'all' = 'false' THEN
        filter := filter - 'all';
    END IF;
    IF filter = '{}' THEN
        PERFORM assayline.refuse('AL002', '', 'filter: names nothing, and that would be every job; who wants that says all');
    ELSIF filter ? 'all' AND filter <> '{"all": true}' THEN
        PERFORM assayline.refuse('AL002', '', 'all: means every job, and the rest of the filter only some');
    ELSIF filter ->> 'lane' NOT IN ('interactive', 'bulk') THEN
        PERFORM assayline.refuse('AL002', '', format('lane: interactive or bulk, not %L', left(filter ->> 'lane', 60)));
    ELSIF filter ? 'state' AND (assayline.cancel_states(filter) = '{}'
          OR NOT assayline.cancel_states(filter) <@ ARRAY['scheduled', 'queued', 'running']) THEN
        PERFORM assayline.refuse('AL002', '', format('state: scheduled, queued or running, not %s', left(filter ->> 'state', 60)));
    END IF;
    FOREACH place IN ARRAY ARRAY['created_after', 'created_before'] LOOP
        PERFORM assayline.option_time('', filter, place);
    END LOOP;
    RETURN filter;
END $$;

CREATE FUNCTION assayline.cancel_conditions(filter jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$
-- A judged filter as a condition on a job `j`; its state is asked for apart.
    SELECT coalesce(string_agg(f.condition, ' AND ' ORDER BY f.name), 'true')
      FROM assayline.cancel_filters() f WHERE filter ? f.name AND f.condition IS NOT NULL
$$;

CREATE FUNCTION public.assayline_count_cancellable(filter jsonb) RETURNS TABLE (state text, jobs bigint)
LANGUAGE plpgsql STABLE AS
$$
-- How many jobs a filter would cancel now, by state. Each state by itself: what waits stands in tables of its own, the
-- others in an index.
DECLARE
    judged jsonb := assayline.cancel_filter(filter);
BEGIN
    FOREACH state IN ARRAY assayline.cancel_states(judged) LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE j.state = %L AND %s', CASE state WHEN 'scheduled' THEN
                           'assayline.waiting w JOIN assayline.jobs j ON j.id = w.job_id' ELSE 'assayline.jobs j' END, state,
                       assayline.cancel_conditions(judged))
           INTO jobs
          USING judged, assayline.option_time('', judged, 'created_after'), assayline.option_time('', judged, 'created_before');
        RETURN NEXT;
    END LOOP;
END $$;

CREATE FUNCTION assayline.oldest_cancellable(states text[], most integer DEFAULT 200000) RETURNS uuid LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS
$$
-- Where a walk over all jobs in one of these states may begin, so that the history before them is not read; NULL where
-- there are none. The oldest of them; of more than `most`, too many to look at, the first job of the oldest partition
-- that has any. The least id by its text: as an id it would be looked for from the beginning of the table on.
DECLARE
    wanted text; seen bigint; found uuid; oldest uuid; leaf text;
BEGIN
    FOREACH wanted IN ARRAY states LOOP
        IF wanted = 'scheduled' THEN
            SELECT least(oldest, min(w.job_id::text)::uuid) INTO oldest FROM assayline.waiting w;
            CONTINUE;
        END IF;
        EXECUTE format('SELECT count(*), min(j.id::text)::uuid FROM (
            SELECT id FROM assayline.jobs WHERE state = %L LIMIT $1 + 1) j', wanted) INTO seen, found USING most;
        oldest := least(oldest, CASE WHEN seen <= most THEN found END);
        CONTINUE WHEN seen <= most;
        FOR leaf IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'assayline.jobs'::regclass LOOP
            EXECUTE format('SELECT j.id FROM %1$s j WHERE EXISTS (SELECT FROM %1$s k WHERE k.state = %2$L)
                            ORDER BY j.id LIMIT 1', leaf, wanted) INTO found;
            oldest := least(oldest, found);
        END LOOP;
    END LOOP;
    RETURN oldest;
END $$;

CREATE FUNCTION public.assayline_cancel_jobs(filter jsonb, most integer DEFAULT 1000, after uuid DEFAULT NULL)
RETURNS TABLE (cancelled integer, running integer, held integer, reached uuid) LANGUAGE plpgsql VOLATILE AS
$$
-- Cancels one portion of the jobs that a filter means: at most `most`, and no more than ten times as many are looked
-- at. Call it again, in a transaction of its own, with `after` set to what it has `reached`, until that is NULL. By id,
-- which is the time of birth, so jobs that come meanwhile come last.
--
-- cancelled: of this portion; running: of those, how many ran. held: passed by, for another transaction had them just
-- then; a second walk finds them. Nobody's lock is waited for, and each portion's own go with its commit.
#variable_conflict use_column
DECLARE
    judged jsonb := assayline.cancel_filter(filter);
    since timestamptz := assayline.option_time('', judged, 'created_after');
    until timestamptz := assayline.option_time('', judged, 'created_before');
    states text[] := assayline.cancel_states(judged);
    looks integer := 10 * most;
    low uuid := after; high uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
    ids uuid[]; workers uuid[]; fences integer[]; matched integer; looked integer; last_matched uuid; last_looked uuid;
BEGIN
    IF most IS NULL OR most NOT BETWEEN 1 AND 10000 THEN
        PERFORM assayline.refuse('AL002', '', format('most: must be a whole number from 1 to 10000, not %s', most));
    END IF;
    IF low IS NULL THEN
        low := assayline.oldest_cancellable(states);
        IF low IS NOT NULL AND since > '1970-01-02Z' THEN -- an id and its `created_at` are not one reading of the clock
            low := greatest(low, assayline.uuid7_floor(since - interval '1 h'));
        END IF;
    END IF;
    IF until IS NOT NULL THEN
        high := assayline.uuid7_floor(until + interval '1 h');
    END IF;
    -- Text, for what is not asked for must not be in the way of an index; each value is a parameter.
    EXECUTE format($query$
        WITH looked AS MATERIALIZED (
            SELECT j.id, j.state, j.tenant, j.analysis, j.provider, j.source, j.subject, j.tags, j.lane, j.created_at
              FROM assayline.jobs j
             WHERE j.id >= $4 AND j.id IS DISTINCT FROM $5 AND j.id <= $6 AND %s
             ORDER BY j.id LIMIT $7
        ), matched AS MATERIALIZED (
            SELECT j.id FROM looked j WHERE j.state = ANY ($8) AND %s ORDER BY j.id LIMIT $9
        ), free AS MATERIALIZED (
            SELECT j.id FROM assayline.jobs j
             WHERE j.id = ANY (ARRAY(SELECT m.id FROM matched m)) AND j.id >= $4 AND j.state = ANY ($8)
             ORDER BY j.id FOR UPDATE SKIP LOCKED
        ), moved AS (
            UPDATE assayline.jobs j
               SET state = 'cancelled', reason = 'cancel_' || j.state, finished_at = clock_timestamp(), lease_until = NULL
             WHERE j.id = ANY (ARRAY(SELECT f.id FROM free f)) AND j.id >= $4 AND j.state = ANY ($8)
            RETURNING j.id, CASE j.reason WHEN 'cancel_running' THEN j.incarnation END AS worker, j.claim_no
        )
        SELECT array_agg(m.id), array_agg(m.worker), array_agg(m.claim_no),
               (SELECT count(*) FROM matched), (SELECT id FROM matched ORDER BY id DESC LIMIT 1),
               (SELECT count(*) FROM looked), (SELECT id FROM looked ORDER BY id DESC LIMIT 1)
          FROM moved m
        $query$, CASE WHEN judged ? 'tenant' THEN 'j.tenant = $1 ->> ''tenant''' ELSE 'true' END,
        assayline.cancel_conditions(judged))
       INTO ids, workers, fences, matched, last_matched, looked, last_looked
      USING judged, since, until, low, after, high, looks, states, most;
    PERFORM assayline.tell_cancelled(ids, workers, fences);
    cancelled := coalesce(cardinality(ids), 0);
    running := (SELECT count(w) FROM unnest(workers) w);
    held := matched - cancelled;
    reached := CASE WHEN matched = most THEN last_matched WHEN looked = looks THEN last_looked END;
    RETURN NEXT;
END $$;
