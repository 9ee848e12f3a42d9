-- Replay: what jobs asked for that have ended is asked for again, by new jobs; the old ones stay as they ended.
--
-- Which jobs a replay means is written down when it is made, a row of `replay_jobs` each; the dispatchers make the new
-- jobs afterwards, portion by portion. A job and what replays it (and what replays that) are a line; `root_id` is its first.

ALTER TABLE assayline.jobs
    ADD COLUMN replay_of uuid,  -- the job that this one replays
    ADD COLUMN replay_id uuid;  -- the replay that made it

CREATE TABLE assayline.replays (
    id           uuid        NOT NULL PRIMARY KEY,
    state        text        NOT NULL CHECK (state IN ('running', 'paused', 'stopped', 'done')),
    tenant       text,                           -- whose jobs alone it means; NULL: anybody's
    filter       jsonb       NOT NULL,           -- which jobs were asked for
    changes      jsonb       NOT NULL,           -- options that the new jobs have instead of the old ones'
    rate_per_min integer     CHECK (rate_per_min > 0), -- new jobs a minute, at most; NULL: as fast as they can be made
    made_by      text,
    note         text,
    jobs         integer     NOT NULL,           -- old jobs that it means
    made         integer     NOT NULL DEFAULT 0, -- new jobs
    skipped      integer     NOT NULL DEFAULT 0, -- old jobs that cannot be replayed; `replay_jobs.problem` says why
    reached      uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000', -- the old job it has come to
    next_at      timestamptz NOT NULL,           -- no new job is made before
    problem      text,                           -- why it has paused by itself
    created_at   timestamptz NOT NULL,
    finished_at  timestamptz
);

-- Room in each page for `new_job_id`: it is written once, and touches no index.
CREATE TABLE assayline.replay_jobs (
    replay_id  uuid NOT NULL,
    job_id     uuid NOT NULL,                    -- the old job
    root_id    uuid NOT NULL,                    -- the first of its line: itself, where it replays none
    new_job_id uuid,                             -- NULL: not made yet, or it cannot be
    problem    text,                             -- why it cannot be
    PRIMARY KEY (replay_id, job_id)              -- once within a replay
) WITH (fillfactor = 80);
CREATE INDEX replay_jobs_line ON assayline.replay_jobs (root_id);

-- Making the new jobs -----------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.replay_options(j assayline.jobs, changes jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
$$
-- What to enqueue where this job is replayed: its own options, but for `changes`. Its times and its idempotency key were
-- that one job's; replays go by the bulk lane, unless `changes` says otherwise.
    SELECT jsonb_strip_nulls(jsonb_build_object(
               'lane', 'bulk', 'source', j.source, 'priority', j.priority, 'prompt_version', j.prompt_version,
               'output_format', j.output_format, 'max_tokens', j.max_tokens, 'temperature', j.temperature,
               'max_cost_usd', j.max_cost_usd, 'max_attempts', j.max_attempts, 'use_cache', j.use_cache,
               'use_fallback', j.use_fallback,
               'chain', CASE WHEN NOT changes ?| ARRAY['provider', 'model', 'chain', 'current_chain'] THEN j.chain END))
           || (changes - 'current_chain')
$$;

CREATE FUNCTION assayline.replay_portion(most integer) RETURNS SETOF assayline.replays LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS
$$
-- Makes the next new jobs of one running replay, `most` at most and no more than its rate allows, and returns it as it
-- stands then; nothing where no replay may go on now, or others have them all in hand. All of it is one transaction with
-- the note of how far the replay has come: whoever dies in it has made nothing.
--
-- The rate is a schedule: each new job moves `next_at` on by its share of a minute. What nobody came for in time is
-- made up for, but never more than two seconds of it: dispatchers come once a second, and may have been away for hours.
--
-- A replay on which this function fails pauses and says so, lest it be tried for ever; what passes by itself (deadlock,
-- resources, locks, shutdown: PostgreSQL, Appendix A) is raised, and tried again.
DECLARE
    r assayline.replays; item record; j assayline.jobs; fresh assayline.jobs[] := '{}';
    room integer := most; share interval; looked integer := 0; why text; queue text;
BEGIN
    SELECT p.* INTO r FROM assayline.replays p WHERE p.state = 'running' AND p.next_at <= clock_timestamp()
     ORDER BY p.next_at LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF r.rate_per_min IS NULL THEN
        r.next_at := clock_timestamp();
    ELSE
        share := interval '1 minute' / r.rate_per_min;
        r.next_at := greatest(r.next_at, clock_timestamp() - interval '2 s');
        room := greatest(1, least(most, 1 + floor(extract(epoch FROM clock_timestamp() - r.next_at)
                                                  / extract(epoch FROM share))::integer));
    END IF;
    BEGIN
        FOR item IN
            SELECT i.job_id, was, c.job_id IS NOT NULL AS kept
              FROM (SELECT n.job_id FROM assayline.replay_jobs n WHERE n.replay_id = r.id AND n.job_id > r.reached
                     ORDER BY n.job_id LIMIT room) i
              LEFT JOIN assayline.jobs was ON was.id = i.job_id
              LEFT JOIN assayline.job_contents c ON c.job_id = i.job_id
             ORDER BY i.job_id
        LOOP
            looked := looked + 1;
            r.reached := item.job_id;
            why := CASE WHEN (item.was).id IS NULL THEN 'job: its history is no longer kept'
                        WHEN NOT item.kept THEN 'content: is no longer kept' END;
            IF why IS NULL THEN
                BEGIN
                    j := assayline.resolve_shape('', (item.was).analysis, assayline.replay_options(item.was, r.changes), '{}');
                EXCEPTION WHEN SQLSTATE 'AL001' OR SQLSTATE 'AL002' OR SQLSTATE 'AL003' THEN
                    why := SQLERRM; -- the catalog has changed since the replay was made
                END;
            END IF;
            IF why IS NULL THEN
                j.id := assayline.uuid7(); j.reason := 'replay'; j.replay_of := item.job_id; j.replay_id := r.id;
                j.tenant := (item.was).tenant; j.subject := (item.was).subject; j.tags := (item.was).tags;
                fresh := fresh || j;
            ELSE
                UPDATE assayline.replay_jobs n SET problem = why WHERE n.replay_id = r.id AND n.job_id = item.job_id;
            END IF;
        END LOOP;

        INSERT INTO assayline.jobs SELECT f.* FROM unnest(fresh) f;
        INSERT INTO assayline.job_contents (job_id, content, context, messages, schema)
        SELECT f.id, c.content, c.context, c.messages, c.schema
          FROM unnest(fresh) f JOIN assayline.job_contents c ON c.job_id = f.replay_of;
        UPDATE assayline.replay_jobs n SET new_job_id = f.id
          FROM unnest(fresh) f WHERE n.replay_id = r.id AND n.job_id = f.replay_of;
        FOR queue IN SELECT DISTINCT f.provider || '.' || f.lane FROM unnest(fresh) f WHERE f.lane = 'interactive' LOOP
            PERFORM pg_notify('assayline_due', queue);
        END LOOP;
    EXCEPTION WHEN OTHERS THEN
        IF left(SQLSTATE, 2) IN ('40', '53', '55', '57', '58') THEN
            RAISE;
        END IF;
        -- Its code and no more: a message may quote what it could not store.
        RETURN QUERY UPDATE assayline.replays p
                        SET state = 'paused', problem = format('PostgreSQL refuses a new job: SQLSTATE %s', SQLSTATE)
                      WHERE p.id = r.id RETURNING p.*;
        RETURN;
    END;
    RETURN QUERY UPDATE assayline.replays p
                    SET reached = r.reached, made = p.made + cardinality(fresh),
                        skipped = p.skipped + looked - cardinality(fresh),
                        next_at = r.next_at + coalesce(share, interval '0') * cardinality(fresh),
                        state = CASE WHEN looked < room OR p.made + p.skipped + looked >= p.jobs THEN 'done' ELSE 'running' END,
                        finished_at = CASE WHEN looked < room OR p.made + p.skipped + looked >= p.jobs THEN clock_timestamp() END
                  WHERE p.id = r.id RETURNING p.*;
END $$;

-- Reading -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.replay_line(job uuid, replay_of uuid, replay_id uuid) RETURNS jsonb LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog AS
$$
-- The line of a job: `replay_root`, its first (null: the job replays none), and `replays`, the jobs that replay this one,
-- oldest first. With its owner's rights: those who may read jobs need know nothing of the tables of replays.
    WITH root AS (
        SELECT (SELECT i.root_id FROM assayline.replay_jobs i
                 WHERE i.replay_id = replay_line.replay_id AND i.job_id = replay_line.replay_of) AS id
    )
    SELECT jsonb_build_object(
        'replay_root', root.id,
        'replays', coalesce((SELECT jsonb_agg(jsonb_build_object('id', c.id, 'replay_id', i.replay_id, 'state', c.state)
                                              ORDER BY c.id)
                               FROM assayline.replay_jobs i JOIN assayline.jobs c ON c.id = i.new_job_id
                              WHERE i.root_id = coalesce(root.id, job) AND i.job_id = job), '[]'))
      FROM root
$$;

CREATE OR REPLACE FUNCTION public.assayline_get(id uuid, tenant text DEFAULT NULL) RETURNS jsonb LANGUAGE sql STABLE
SET timezone = 'UTC' AS
$$
-- One job as JSON: its row, `result` (null until there is one), `calls`, oldest first, and its line (`replay_line`). NULL
-- where there is no such job (of this tenant).
    SELECT to_jsonb(j) - ARRAY['copies', 'incarnation', 'lease_until'] || jsonb_build_object(
        'result', (SELECT to_jsonb(r) - 'job_id' FROM assayline.results r WHERE r.job_id = j.id),
        'calls', coalesce((SELECT jsonb_agg(to_jsonb(c) - ARRAY['job_id', 'tenant', 'analysis', 'incarnation']
                                            ORDER BY c.claim_no, c.call_no)
                             FROM assayline.calls c WHERE c.job_id = j.id), '[]'))
        || assayline.replay_line(j.id, j.replay_of, j.replay_id)
      FROM assayline.jobs j
     WHERE j.id = assayline_get.id AND (assayline_get.tenant IS NULL OR j.tenant = assayline_get.tenant)
$$;
