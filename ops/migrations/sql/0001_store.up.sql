-- The store: one job is one row of `jobs`, its content in `job_contents`, each provider call a row of `calls`,
-- its answer in `results`. The four are partitioned by job id (UUIDv7: by time of birth), so that a month of
-- history goes away by dropping its partitions. No foreign keys between them: they live and die together, and a
-- key check on each of a job's writes would buy nothing that the one writing function does not give.

CREATE SCHEMA IF NOT EXISTS assayline;

-- Time-ordered ids --------------------------------------------------------------------------------------------

DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        EXECUTE 'CREATE FUNCTION assayline.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
                 AS ''SELECT pg_catalog.uuidv7()''';
    ELSE
        -- RFC 9562, 5.7 with method 3 of 6.2: 48 bits of Unix milliseconds, version 7, 12 bits of the millisecond's
        -- fraction (so that ids of one millisecond keep their order), the rest random.
        EXECUTE 'CREATE FUNCTION assayline.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS ''
            SELECT (lpad(to_hex(floor(t.ms)::bigint), 12, ''''0'''')
                    || ''''7'''' || lpad(to_hex(floor((t.ms - floor(t.ms)) * 4096)::integer), 3, ''''0'''')
                    || right(replace(gen_random_uuid()::text, ''''-'''', ''''''''), 16))::uuid
              FROM (SELECT extract(epoch FROM clock_timestamp())::numeric * 1000 AS ms) t''';
    END IF;
END $$;

CREATE FUNCTION assayline.uuid7_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;
COMMENT ON FUNCTION assayline.uuid7_floor IS 'The lowest id that a job born at this time can have.';

-- Tables ------------------------------------------------------------------------------------------------------

CREATE TABLE assayline.jobs (
    id              uuid        NOT NULL,
    tenant          text        NOT NULL,
    analysis        text        NOT NULL,
    subject         text,
    source          text,
    lane            text        NOT NULL CHECK (lane IN ('interactive', 'bulk')),
    priority        smallint    NOT NULL CHECK (priority BETWEEN 0 AND 9),
    state           text        NOT NULL CHECK (state IN ('scheduled', 'queued', 'running', 'submitted',
                                                          'succeeded', 'failed', 'cancelled', 'expired')),
    reason          text        NOT NULL,           -- why it stands where it stands: the name of its last move, or more
    chain           text[]      NOT NULL,           -- provider/model hops, first choice first
    hop             smallint    NOT NULL DEFAULT 0, -- index of the hop in force; provider and model repeat it
    provider        text        NOT NULL,
    model           text        NOT NULL,
    prompt_version  text,
    output_format   text,
    max_tokens      integer,
    temperature     real,
    max_cost_usd    numeric(12, 6),
    max_attempts    smallint    NOT NULL,
    use_cache       boolean     NOT NULL,
    use_fallback    boolean     NOT NULL,
    tags            text[]      NOT NULL,
    idempotency_key text,
    not_before      timestamptz NOT NULL,
    deadline_at     timestamptz,                    -- no call may run on beyond it
    expires_at      timestamptz,                    -- not wanted any more if unclaimed by then
    release         integer     NOT NULL DEFAULT 0, -- rises with each release; a message carries it
    copies          smallint    NOT NULL DEFAULT 0, -- messages published for the present wait in `queued`
    claim_no        integer     NOT NULL DEFAULT 0, -- the fence
    attempts_used   smallint    NOT NULL DEFAULT 0, -- calls started, snoozes given back
    incarnation     uuid,                           -- the worker process that runs it
    lease_until     timestamptz,                    -- a stuck attempt is rescued after this
    created_at      timestamptz NOT NULL,
    queued_at       timestamptz,
    started_at      timestamptz,
    finished_at     timestamptz,
    causes          jsonb       NOT NULL DEFAULT '[]', -- each unhappy end of an attempt, oldest first
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- Four indexes and no more: every move writes each of them anew.
CREATE INDEX jobs_due ON assayline.jobs (provider, lane, priority, not_before, id) WHERE state = 'scheduled';
CREATE INDEX jobs_active ON assayline.jobs (provider, lane, state, queued_at) WHERE state IN ('queued', 'running');
CREATE INDEX jobs_tenant ON assayline.jobs (tenant, id);

CREATE TABLE assayline.job_contents (
    job_id   uuid  NOT NULL PRIMARY KEY,
    content  text  NOT NULL,
    context  jsonb NOT NULL,
    messages jsonb,
    schema   jsonb
) PARTITION BY RANGE (job_id);

CREATE TABLE assayline.calls (
    job_id              uuid        NOT NULL,
    claim_no            integer     NOT NULL,
    call_no             smallint    NOT NULL,
    kind                text        NOT NULL CHECK (kind IN ('answer', 'repair')),
    outcome             text        NOT NULL CHECK (outcome IN ('unknown', 'succeeded', 'failed', 'not_called', 'abandoned')),
    tenant              text        NOT NULL,
    analysis            text        NOT NULL,
    provider            text        NOT NULL,
    account             text        NOT NULL,
    model               text        NOT NULL,
    incarnation         uuid        NOT NULL,
    started_at          timestamptz NOT NULL,
    finished_at         timestamptz,
    latency_s           real,
    input_tokens        integer,
    cached_tokens       integer,
    output_tokens       integer,
    cost_usd            numeric(12, 6),             -- NULL: unknown, never "free"
    estimated           boolean     NOT NULL DEFAULT false, -- tokens and cost are ours, not the provider's: it was cut short
    finish_reason       text,
    provider_request_id text,
    error               text,
    error_message       text,
    PRIMARY KEY (job_id, claim_no, call_no)
) PARTITION BY RANGE (job_id);

CREATE TABLE assayline.results (
    job_id         uuid        NOT NULL PRIMARY KEY,
    data           jsonb,                           -- NULL: invalid_output; raw_text holds what came
    raw_text       text,
    repaired       boolean     NOT NULL,
    provider       text        NOT NULL,
    model          text        NOT NULL,
    prompt_version text        NOT NULL,
    input_tokens   integer     NOT NULL,
    cached_tokens  integer     NOT NULL,
    output_tokens  integer     NOT NULL,
    cost_usd       numeric(12, 6),
    latency_s      real        NOT NULL,
    calls          smallint    NOT NULL,
    created_at     timestamptz NOT NULL
) PARTITION BY RANGE (job_id);

CREATE TABLE assayline.idempotency_keys (
    tenant      text        NOT NULL,
    key         text        NOT NULL,
    job_id      uuid        NOT NULL,
    fingerprint bytea       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key)
);

CREATE TABLE assayline.workers (
    incarnation  uuid        NOT NULL PRIMARY KEY,
    hostname     text        NOT NULL,
    pid          integer     NOT NULL,
    providers    text[]      NOT NULL,
    slots        integer     NOT NULL CHECK (slots > 0),
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    stopping     boolean     NOT NULL DEFAULT false
);

-- The catalog, mirrored at boot so that assayline_enqueue can resolve and refuse.
CREATE TABLE assayline.catalog_analyses (
    name         text     NOT NULL PRIMARY KEY,
    chain        text[]   NOT NULL,
    lane         text     NOT NULL CHECK (lane IN ('interactive', 'bulk')),
    max_attempts smallint NOT NULL
);
CREATE TABLE assayline.catalog_models (
    name text NOT NULL PRIMARY KEY -- provider/model, of configured providers
);

-- What the options of assayline_enqueue may hold, and as which kinds of JSON.
CREATE TABLE assayline.job_options (
    name  text   NOT NULL PRIMARY KEY,
    kinds text[] NOT NULL
);
INSERT INTO assayline.job_options (name, kinds) VALUES
    ('context', '{object}'), ('messages', '{array}'), ('tenant', '{string}'), ('subject', '{string,null}'),
    ('source', '{string,null}'), ('lane', '{string,null}'), ('priority', '{number}'), ('provider', '{string,null}'),
    ('model', '{string,null}'), ('chain', '{array,null}'), ('prompt_version', '{string,null}'),
    ('output_format', '{string,null}'), ('schema', '{object,null}'), ('max_tokens', '{number,null}'),
    ('temperature', '{number,null}'), ('max_cost_usd', '{number,string,null}'), ('max_attempts', '{number,null}'),
    ('use_cache', '{boolean}'), ('use_fallback', '{boolean}'), ('not_before', '{string,null}'),
    ('deadline_at', '{string,null}'), ('expires_at', '{string,null}'), ('idempotency_key', '{string,null}'),
    ('tags', '{array}');

-- Partitions --------------------------------------------------------------------------------------------------

CREATE FUNCTION assayline.ensure_partitions(months_ahead integer DEFAULT 3) RETURNS integer LANGUAGE plpgsql
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
SELECT assayline.ensure_partitions();
