-- The one way in. A request has two parts, and one function resolves each: what many jobs share (`resolve_shape`: the
-- analysis, its chain, its limits) and what is a job's own (`resolve_row`: its key, its text, its size). The two doors
-- (one job; a staged batch) call both; a batch calls the dearer one once for each distinct shape.
--
-- SQLSTATEs, for clients of any language:
--   AL001 unknown analysis, provider or model     AL002 an option is unknown, of the wrong kind or out of range
--   AL003 too large or too deep                   AL409 the idempotency key was used for another request
-- A refusal reads `field: what is wrong`, and in a batch `item 17: field: what is wrong`.

CREATE TYPE assayline.resolved_row AS (
    id              uuid,
    tenant          text,
    subject         text,
    tags            text[],
    idempotency_key text,
    fingerprint     bytea,
    shape           jsonb,  -- the options that are not a row's own
    kinds           text[]  -- which kinds of JSON the row's own options are, in the order of row_options()
);

CREATE FUNCTION assayline.row_options() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT ARRAY['tenant', 'subject', 'tags', 'idempotency_key', 'context', 'messages'] $$;
COMMENT ON FUNCTION assayline.row_options IS 'The options that differ from job to job of a batch; all others make its shape.';

CREATE FUNCTION assayline.refuse(code text, place text, problem text, hint text DEFAULT '') RETURNS void LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', place || problem USING ERRCODE = code, HINT = hint; END $$;

-- A row's own part -------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.message_problem(messages jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$
    SELECT format('messages: number %s must be {"role": "system", "user" or "assistant", "content": text} and no more', n)
      FROM jsonb_array_elements(messages) WITH ORDINALITY m(message, n)
     WHERE CASE WHEN jsonb_typeof(message) <> 'object' THEN true
                ELSE message - ARRAY['role', 'content'] <> '{}'
                     OR coalesce(message ->> 'role', '') NOT IN ('system', 'user', 'assistant')
                     OR jsonb_typeof(message -> 'content') IS DISTINCT FROM 'string' END
     ORDER BY n LIMIT 1
$$;

CREATE FUNCTION assayline.tag_problem(tags jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$
    SELECT CASE WHEN jsonb_array_length(tags) > 50 THEN 'tags: at most 50'
                WHEN EXISTS (SELECT FROM jsonb_array_elements(tags) t
                              WHERE jsonb_typeof(t) <> 'string' OR length(t #>> '{}') NOT BETWEEN 1 AND 100)
                THEN 'tags: each a string of 1 to 100 characters' END
$$;

CREATE FUNCTION assayline.resolve_row(place text, analysis text, content text, options jsonb)
RETURNS assayline.resolved_row LANGUAGE plpgsql VOLATILE AS
$$
-- `place` stands before every refusal: '' or 'item 17: '. Kinds are judged with the shape; here only what has its kind.
DECLARE
    r assayline.resolved_row; problem text; excess text;
BEGIN
    options := coalesce(options, '{}');
    IF jsonb_typeof(options) <> 'object' THEN
        PERFORM assayline.refuse('AL002', place, 'options: must be a JSON object, not ' || jsonb_typeof(options));
    END IF;
    excess := CASE
        WHEN octet_length(content) > 1048576 THEN format('content: %s bytes, and 1048576 (1 MiB) is the most', octet_length(content))
        WHEN octet_length(options::text) > 1048576 THEN format('options: %s bytes, and 1048576 (1 MiB) is the most', octet_length(options::text))
        -- 32 levels inside an option; the options object itself is one more.
        WHEN jsonb_path_exists(options, '$.**{34}') THEN 'options: nested deeper than 32 levels'
    END;
    IF excess IS NOT NULL THEN
        PERFORM assayline.refuse('AL003', place, excess);
    END IF;
    r.kinds := ARRAY[jsonb_typeof(options -> 'tenant'), jsonb_typeof(options -> 'subject'), jsonb_typeof(options -> 'tags'),
                     jsonb_typeof(options -> 'idempotency_key'), jsonb_typeof(options -> 'context'), jsonb_typeof(options -> 'messages')];
    r.shape := options - assayline.row_options();
    r.id := assayline.uuid7();
    r.tenant := coalesce(options ->> 'tenant', 'default');
    r.subject := options ->> 'subject';
    r.idempotency_key := options ->> 'idempotency_key';
    problem := CASE
        WHEN content IS NULL THEN 'content: must be text, not null'
        WHEN length(r.tenant) NOT BETWEEN 1 AND 200 THEN 'tenant: 1 to 200 characters'
        WHEN length(r.subject) > 500 THEN 'subject: at most 500 characters'
        WHEN length(r.idempotency_key) NOT BETWEEN 1 AND 255 THEN 'idempotency_key: 1 to 255 characters'
        WHEN r.kinds[3] = 'array' THEN assayline.tag_problem(options -> 'tags')
    END;
    IF problem IS NULL AND r.kinds[6] = 'array' THEN
        problem := assayline.message_problem(options -> 'messages');
    END IF;
    IF problem IS NOT NULL THEN
        PERFORM assayline.refuse('AL002', place, problem);
    END IF;
    r.tags := CASE WHEN r.kinds[3] = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(options -> 'tags')) ELSE '{}' END;
    IF r.idempotency_key IS NOT NULL THEN
        -- jsonb prints its keys in one order, so equal requests have equal text; null and absent are the same request.
        r.fingerprint := sha256(convert_to(jsonb_build_array(analysis, r.tenant, r.subject, r.tags,
            options -> 'context', options -> 'messages', r.shape -> 'schema', jsonb_strip_nulls(r.shape - 'schema'))::text
            || content, 'UTF8'));
    END IF;
    RETURN r;
END $$;

-- The shared part ----------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.check_kinds(place text, shape jsonb, kinds text[]) RETURNS void LANGUAGE plpgsql STABLE AS
$$
DECLARE
    problem text;
BEGIN
    SELECT string_agg(CASE WHEN known.name IS NULL THEN format('%s: unknown option', given.name)
                           ELSE format('%s: must be %s, not %s', given.name, array_to_string(known.kinds, ' or '),
                                       given.kind) END, '; ' ORDER BY given.name)
      INTO problem
      FROM (SELECT e.key, jsonb_typeof(e.value) FROM jsonb_each(shape) e
            UNION ALL
            SELECT o.name, o.kind FROM unnest(assayline.row_options(), kinds) o(name, kind) WHERE o.kind IS NOT NULL
           ) given (name, kind)
      LEFT JOIN assayline.job_options known ON known.name = given.name
     WHERE known.name IS NULL OR given.kind <> ALL (known.kinds);
    IF problem IS NOT NULL THEN
        PERFORM assayline.refuse('AL002', place, problem);
    END IF;
END $$;

CREATE FUNCTION assayline.option_number(place text, options jsonb, name text, low numeric, high numeric, whole boolean)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS
$$
-- The number of this name, or NULL where there is none; judged before any cast can overflow or round.
DECLARE
    given text := options ->> name; value numeric;
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(options -> name) = 'number' OR given ~ '^[0-9]{1,20}(\.[0-9]{1,30})?$' THEN
        value := given::numeric;
    END IF;
    IF value IS NULL OR value NOT BETWEEN low AND high OR (whole AND value <> trunc(value)) THEN
        PERFORM assayline.refuse('AL002', place, format('%s: must be a %snumber from %s to %s, not %s', name,
            CASE WHEN whole THEN 'whole ' ELSE '' END, low, high, left(given, 60)));
    END IF;
    RETURN value;
END $$;

CREATE FUNCTION assayline.option_time(place text, options jsonb, name text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS
$$
-- The time of this name, or NULL where there is none. Without an offset it would mean the session's zone: refused.
DECLARE
    given text := options ->> name;
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    IF given ~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)$' THEN
        BEGIN
            RETURN given::timestamptz;
        EXCEPTION WHEN data_exception THEN
            NULL; -- such as month 13: refused below, by name
        END;
    END IF;
    PERFORM assayline.refuse('AL002', place, format(
        '%s: must be an ISO 8601 time with its offset, such as 2026-11-05T08:00:00Z, not %L', name, left(given, 60)));
END $$;

CREATE FUNCTION assayline.given_chain(place text, options jsonb) RETURNS text[] LANGUAGE plpgsql STABLE AS
$$
-- The hops that the caller names itself: a model alone, or a chain. NULL where it names none.
DECLARE
    wanted text := options ->> 'model'; only_provider text := options ->> 'provider'; hops jsonb := options -> 'chain';
BEGIN
    IF wanted IS NOT NULL THEN
        RETURN ARRAY[CASE WHEN only_provider IS NULL OR starts_with(wanted, only_provider || '/') THEN wanted
                          ELSE only_provider || '/' || wanted END];
    ELSIF jsonb_typeof(hops) IS DISTINCT FROM 'array' THEN
        RETURN NULL;
    ELSIF jsonb_array_length(hops) NOT BETWEEN 1 AND 10
          OR EXISTS (SELECT FROM jsonb_array_elements(hops) h WHERE jsonb_typeof(h) <> 'string') THEN
        PERFORM assayline.refuse('AL002', place, 'chain: 1 to 10 strings, each provider/model');
    END IF;
    RETURN ARRAY(SELECT jsonb_array_elements_text(hops));
END $$;

CREATE FUNCTION assayline.resolve_chain(place text, known assayline.catalog_analyses, options jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE AS
$$
-- The hops of a job: the caller's, or the analysis's own; narrowed to `provider` where one is named without a model.
-- Only models of configured providers are known here.
DECLARE
    hops text[] := coalesce(assayline.given_chain(place, options), known.chain);
    only_provider text := options ->> 'provider'; missing text;
BEGIN
    IF only_provider IS NOT NULL AND options ->> 'model' IS NULL THEN
        hops := ARRAY(SELECT h FROM unnest(hops) WITH ORDINALITY u(h, n) WHERE starts_with(h, only_provider || '/') ORDER BY n);
        IF cardinality(hops) = 0 THEN
            hops := ARRAY(SELECT m.name FROM assayline.catalog_models m
                           WHERE starts_with(m.name, only_provider || '/') ORDER BY m.name LIMIT 1);
        END IF;
        IF cardinality(hops) = 0 THEN
            PERFORM assayline.refuse('AL001', place, format('provider: %L is not configured', only_provider));
        END IF;
    END IF;
    SELECT h INTO missing FROM unnest(hops) h
     WHERE NOT EXISTS (SELECT FROM assayline.catalog_models m WHERE m.name = h) LIMIT 1;
    IF missing IS NOT NULL THEN
        PERFORM assayline.refuse('AL001', place, format('model: %L is not in the catalog of configured providers', missing));
    ELSIF coalesce(cardinality(hops), 0) = 0 THEN
        PERFORM assayline.refuse('AL001', place, format('analysis: no configured provider serves %L', known.name),
            'Configure one (`assayline doctor` says which variable), or name a model.');
    END IF;
    RETURN hops;
END $$;

CREATE FUNCTION assayline.check_shape(place text, j assayline.jobs) RETURNS void LANGUAGE plpgsql AS
$$
DECLARE
    problem text := CASE
        WHEN length(j.source) > 200 THEN 'source: at most 200 characters'
        WHEN length(j.prompt_version) > 100 THEN 'prompt_version: at most 100 characters'
        WHEN length(j.output_format) > 50 THEN 'output_format: at most 50 characters'
        WHEN j.lane NOT IN ('interactive', 'bulk') THEN format('lane: interactive or bulk, not %L', left(j.lane, 60))
        WHEN j.expires_at <= j.not_before THEN 'expires_at: must lie after not_before (which is now where none is given)'
        WHEN j.deadline_at <= j.not_before THEN 'deadline_at: must lie after not_before (which is now where none is given)'
    END;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM assayline.refuse('AL002', place, problem);
    END IF;
END $$;

CREATE FUNCTION assayline.resolve_shape(place text, analysis text, shape jsonb, kinds text[]) RETURNS assayline.jobs
LANGUAGE plpgsql STABLE AS
$$
-- A job of this shape, whole but for what is a row's own (id, tenant, subject, tags, idempotency_key).
DECLARE
    j assayline.jobs; known assayline.catalog_analyses;
BEGIN
    PERFORM assayline.check_kinds(place, shape, kinds);
    SELECT * INTO known FROM assayline.catalog_analyses a WHERE a.name = analysis;
    IF NOT FOUND THEN
        PERFORM assayline.refuse('AL001', place, format('analysis: %L is not known', left(analysis, 100)),
            'assayline.catalog_analyses lists the known ones; the dispatcher writes it at boot.');
    END IF;
    j.chain := assayline.resolve_chain(place, known, shape);
    j.analysis := analysis;
    j.source := shape ->> 'source';
    j.lane := coalesce(shape ->> 'lane', known.lane);
    j.priority := coalesce(assayline.option_number(place, shape, 'priority', 0, 9, true), 5);
    j.state := 'scheduled';
    j.reason := 'enqueued';
    j.hop := 0;
    j.provider := split_part(j.chain[1], '/', 1);
    j.model := substr(j.chain[1], length(j.provider) + 2);
    j.prompt_version := shape ->> 'prompt_version';
    j.output_format := shape ->> 'output_format';
    j.max_tokens := assayline.option_number(place, shape, 'max_tokens', 1, 1000000, true);
    j.temperature := assayline.option_number(place, shape, 'temperature', 0, 2, false);
    j.max_cost_usd := assayline.option_number(place, shape, 'max_cost_usd', 0.000001, 999999, false);
    j.max_attempts := coalesce(assayline.option_number(place, shape, 'max_attempts', 1, 20, true), known.max_attempts);
    j.use_cache := coalesce((shape -> 'use_cache')::boolean, true);
    j.use_fallback := coalesce((shape -> 'use_fallback')::boolean, true);
    j.created_at := clock_timestamp();
    j.not_before := coalesce(assayline.option_time(place, shape, 'not_before'), j.created_at);
    j.deadline_at := assayline.option_time(place, shape, 'deadline_at');
    j.expires_at := assayline.option_time(place, shape, 'expires_at');
    j.release := 0; j.copies := 0; j.claim_no := 0; j.attempts_used := 0; j.causes := '[]';
    PERFORM assayline.check_shape(place, j);
    RETURN j;
END $$;

-- The door for one job -------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.take_key(r assayline.resolved_row) RETURNS uuid LANGUAGE plpgsql VOLATILE AS
$$
-- Takes the row's idempotency key for its id, and returns the id of the job that has the key now.
DECLARE
    earlier assayline.idempotency_keys;
BEGIN
    LOOP
        INSERT INTO assayline.idempotency_keys (tenant, key, job_id, fingerprint)
        VALUES (r.tenant, r.idempotency_key, r.id, r.fingerprint) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN r.id;
        END IF;
        SELECT * INTO earlier FROM assayline.idempotency_keys k WHERE k.tenant = r.tenant AND k.key = r.idempotency_key;
        EXIT WHEN FOUND; -- not found: it was erased between the two statements, and is free again
    END LOOP;
    IF earlier.fingerprint <> r.fingerprint THEN
        PERFORM assayline.refuse('AL409', '', format('idempotency_key: %L was used for another request (job %s)',
                                                     r.idempotency_key, earlier.job_id));
    END IF;
    RETURN earlier.job_id;
END $$;

CREATE FUNCTION assayline.require_version(version integer) RETURNS void LANGUAGE plpgsql IMMUTABLE AS
$$
BEGIN
    IF version IS DISTINCT FROM 1 THEN
        PERFORM assayline.refuse('AL002', '', format('version: 1 is the only version here, not %s', version));
    END IF;
END $$;

CREATE FUNCTION public.assayline_enqueue(analysis text, content text, options jsonb DEFAULT '{}', version integer DEFAULT 1)
RETURNS TABLE (job_id uuid, created boolean) LANGUAGE plpgsql VOLATILE AS
$$
#variable_conflict use_variable
-- Enqueues one job, in the caller's transaction. `created` is false where the idempotency key had already brought this
-- very request; then `job_id` is that job.
DECLARE
    r assayline.resolved_row; j assayline.jobs;
BEGIN
    PERFORM assayline.require_version(version);
    r := assayline.resolve_row('', analysis, content, options);
    j := assayline.resolve_shape('', analysis, r.shape, r.kinds);
    job_id := r.id;
    IF r.idempotency_key IS NOT NULL THEN
        job_id := assayline.take_key(r);
    END IF;
    created := job_id = r.id;
    IF created THEN
        j.id := r.id; j.tenant := r.tenant; j.subject := r.subject; j.tags := r.tags; j.idempotency_key := r.idempotency_key;
        INSERT INTO assayline.jobs SELECT j.*;
        INSERT INTO assayline.job_contents VALUES (r.id, content, coalesce(options -> 'context', '{}'), options -> 'messages',
                                                   nullif(options -> 'schema', 'null'));
        IF j.lane = 'interactive' THEN
            -- Bulk rows do not notify: NOTIFY takes a lock that makes commits queue.
            PERFORM pg_notify('assayline_due', j.provider || '.interactive');
        END IF;
    END IF;
    RETURN NEXT;
END $$;

-- The door for many ----------------------------------------------------------------------------------------------

CREATE FUNCTION public.assayline_stage() RETURNS void LANGUAGE plpgsql AS
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

CREATE FUNCTION assayline.take_staged_keys() RETURNS void LANGUAGE plpgsql VOLATILE AS
$$
-- take_key() for all staged rows at once; afterwards each row's job_id is the job that has its key. In the keys' order,
-- so that two batches that share keys wait for each other and never in a circle.
DECLARE
    taken bigint; keyed bigint; clash record;
BEGIN
    INSERT INTO assayline.idempotency_keys (tenant, key, job_id, fingerprint)
    SELECT DISTINCT ON (a.tenant COLLATE "C", a.idempotency_key COLLATE "C") a.tenant, a.idempotency_key, a.id, a.fingerprint
      FROM pg_temp.assayline_rows a WHERE a.idempotency_key IS NOT NULL
     ORDER BY a.tenant COLLATE "C", a.idempotency_key COLLATE "C", a.ord
        ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS taken = ROW_COUNT;
    SELECT count(a.idempotency_key) INTO keyed FROM pg_temp.assayline_rows a;
    IF taken = keyed THEN
        RETURN;
    END IF;
    -- EXECUTE plans anew each time: a plan kept from when the table of keys was small would read all of it.
    EXECUTE 'SELECT a.idempotency_key AS key, k.job_id AS id, a.ord AS place
               FROM pg_temp.assayline_rows a
               JOIN assayline.idempotency_keys k ON k.tenant = a.tenant AND k.key = a.idempotency_key
              WHERE k.fingerprint <> a.fingerprint ORDER BY a.ord LIMIT 1' INTO clash;
    IF clash.place IS NOT NULL THEN
        PERFORM assayline.refuse('AL409', format('item %s: ', clash.place),
            format('idempotency_key: %L was used for another request (job %s)', clash.key, clash.id));
    END IF;
    EXECUTE 'UPDATE pg_temp.assayline_rows a SET job_id = k.job_id FROM assayline.idempotency_keys k
              WHERE k.tenant = a.tenant AND k.key = a.idempotency_key AND k.job_id <> a.id';
END $$;

CREATE FUNCTION assayline.write_staged() RETURNS void LANGUAGE plpgsql VOLATILE AS
$$
-- Writes the staged rows that are jobs of their own, and wakes the dispatcher once for each interactive queue.
DECLARE
    provider text;
BEGIN
    INSERT INTO assayline.jobs (
        id, tenant, subject, tags, idempotency_key, analysis, source, lane, priority, state, reason, chain, hop, provider, model,
        prompt_version, output_format, max_tokens, temperature, max_cost_usd, max_attempts, use_cache, use_fallback,
        not_before, deadline_at, expires_at, release, copies, claim_no, attempts_used, created_at, causes)
    SELECT a.id, a.tenant, a.subject, a.tags, a.idempotency_key, s.analysis, s.source, s.lane, s.priority, s.state, s.reason, s.chain,
           s.hop, s.provider, s.model, s.prompt_version, s.output_format, s.max_tokens, s.temperature, s.max_cost_usd,
           s.max_attempts, s.use_cache, s.use_fallback, s.not_before, s.deadline_at, s.expires_at, s.release, s.copies,
           s.claim_no, s.attempts_used, s.created_at, s.causes
      FROM pg_temp.assayline_rows a
      JOIN pg_temp.assayline_shapes s ON s.analysis = a.analysis AND s.shape = a.shape AND s.kinds = a.kinds
     WHERE a.job_id = a.id;

    INSERT INTO assayline.job_contents (job_id, content, context, messages, schema)
    SELECT a.id, g.content, coalesce(g.options -> 'context', '{}'), g.options -> 'messages', nullif(g.options -> 'schema', 'null')
      FROM pg_temp.assayline_rows a JOIN pg_temp.assayline_staging g USING (ord) WHERE a.job_id = a.id;

    FOR provider IN
        SELECT DISTINCT s.provider FROM pg_temp.assayline_rows a
          JOIN pg_temp.assayline_shapes s ON s.analysis = a.analysis AND s.shape = a.shape AND s.kinds = a.kinds
         WHERE a.job_id = a.id AND s.lane = 'interactive'
    LOOP
        PERFORM pg_notify('assayline_due', provider || '.interactive');
    END LOOP;
END $$;

CREATE FUNCTION public.assayline_enqueue_staged(version integer DEFAULT 1)
RETURNS TABLE (ord bigint, job_id uuid, created boolean) LANGUAGE plpgsql VOLATILE AS
$$
#variable_conflict use_column
-- Enqueues everything staged, all or nothing, as assayline_enqueue would one by one. Equal keys within the batch are one
-- job. The staging tables are emptied, so that a transaction may stage again.
BEGIN
    PERFORM assayline.require_version(version);
    INSERT INTO pg_temp.assayline_rows
    SELECT s.ord, s.analysis, r.id, r.*
      FROM pg_temp.assayline_staging s
     CROSS JOIN LATERAL assayline.resolve_row('item ' || s.ord || ': ', s.analysis, s.content, s.options) r;

    INSERT INTO pg_temp.assayline_shapes
    SELECT first.shape, first.kinds, j.*
      FROM (SELECT a.analysis, a.shape, a.kinds, min(a.ord) AS place FROM pg_temp.assayline_rows a
             GROUP BY a.analysis, a.shape, a.kinds ORDER BY place) first
     CROSS JOIN LATERAL assayline.resolve_shape('item ' || first.place || ': ', first.analysis, first.shape, first.kinds) j;

    PERFORM assayline.take_staged_keys();
    PERFORM assayline.write_staged();
    RETURN QUERY SELECT a.ord, a.job_id, a.job_id = a.id FROM pg_temp.assayline_rows a ORDER BY a.ord;
    TRUNCATE pg_temp.assayline_staging, pg_temp.assayline_rows, pg_temp.assayline_shapes;
END $$;

-- Reading and cancelling -------------------------------------------------------------------------------------------

CREATE FUNCTION public.assayline_get(id uuid, tenant text DEFAULT NULL) RETURNS jsonb LANGUAGE sql STABLE
SET timezone = 'UTC' AS
$$
-- One job as JSON: its row, `result` (null until there is one) and `calls`, oldest first. NULL where there is no such
-- job (of this tenant).
    SELECT to_jsonb(j) - ARRAY['copies', 'incarnation', 'lease_until'] || jsonb_build_object(
        'result', (SELECT to_jsonb(r) - 'job_id' FROM assayline.results r WHERE r.job_id = j.id),
        'calls', coalesce((SELECT jsonb_agg(to_jsonb(c) - ARRAY['job_id', 'tenant', 'analysis', 'incarnation']
                                            ORDER BY c.claim_no, c.call_no)
                             FROM assayline.calls c WHERE c.job_id = j.id), '[]'))
      FROM assayline.jobs j
     WHERE j.id = assayline_get.id AND (assayline_get.tenant IS NULL OR j.tenant = assayline_get.tenant)
$$;

CREATE FUNCTION public.assayline_cancel(id uuid, tenant text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE AS
$$
-- Cancels a job that has not ended, and returns the state it is in then; NULL where there is no such job (of this
-- tenant). A running call is not stopped by this: its cost is still recorded, its answer refused by the fence.
#variable_conflict use_variable
DECLARE
    stands text;
BEGIN
    UPDATE assayline.jobs j SET state = 'cancelled', reason = 'cancel_' || j.state, finished_at = clock_timestamp(),
           lease_until = NULL
     WHERE j.id = assayline_cancel.id AND (assayline_cancel.tenant IS NULL OR j.tenant = assayline_cancel.tenant)
       AND j.state IN ('scheduled', 'queued', 'running');
    SELECT j.state INTO stands FROM assayline.jobs j
     WHERE j.id = assayline_cancel.id AND (assayline_cancel.tenant IS NULL OR j.tenant = assayline_cancel.tenant);
    RETURN stands;
END $$;
