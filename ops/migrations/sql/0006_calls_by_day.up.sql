-- What an account has spent since its midnight is read from its calls, in a day's blocks and not in all. Calls are
-- written in the order of time, so the summary of a range of blocks will do: a tree would cost each call a write.
-- Building it reads `calls` once, and keeps writes out of it meanwhile.
CREATE INDEX calls_started ON assayline.calls USING brin (started_at) WITH (pages_per_range = 32, autosummarize = on);
