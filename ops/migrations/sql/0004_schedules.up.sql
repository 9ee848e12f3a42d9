-- The clock's memory: one row for each night of each schedule, so that any number of beats and workers run it once.

CREATE TABLE assayline.schedule_runs (
    schedule    text        NOT NULL,
    local_date  date        NOT NULL,               -- the date on which its window opens, in its own zone
    fold        smallint    NOT NULL DEFAULT 0,     -- PEP 495: 1 for the second of two equal local times
    state       text        NOT NULL CHECK (state IN ('running', 'done', 'failed', 'missed')),
    opens_at    timestamptz NOT NULL,
    closes_at   timestamptz NOT NULL,
    lease_until timestamptz,                        -- a run whose worker died is taken up again after this
    attempts    integer     NOT NULL DEFAULT 1,
    jobs        integer     NOT NULL DEFAULT 0,     -- enqueued by it
    repeats     integer     NOT NULL DEFAULT 0,     -- inputs that an earlier night had brought
    refused     integer     NOT NULL DEFAULT 0,     -- inputs that are no jobs
    problems    jsonb       NOT NULL DEFAULT '[]',  -- the first of those, with their places
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (schedule, local_date, fold)
);
