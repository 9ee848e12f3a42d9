-- The jobs that a replay's filter finds, for the rest of the transaction. `left_out`: why one is not meant; NULL: it is.
CREATE TEMP TABLE assayline_candidates (
    id       uuid   NOT NULL,
    root_id  uuid   NOT NULL,
    analysis text   NOT NULL,
    chain    text[] NOT NULL,
    left_out text,
    held_by  uuid   -- the replay that has it in hand, or had, where it is left out as `replayed`
) ON COMMIT DROP
