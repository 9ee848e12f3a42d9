-- One look into `due` for each thing that is looked for, each beginning where the one before it has ended: what was
-- released while somebody's transaction is open stays there as dead entries, and a look that begins at the beginning
-- reads them all again. In functions, so that the planner knows how few rows come out of each: of what it took for
-- billions it made hashes of four thousand files.

CREATE FUNCTION assayline.release_room(
    at_provider text, in_lane text, groups jsonb, active_since timestamptz, most integer, backlog_share float8,
    least_backlog integer, bulk_share float8, dead_after_s float8,
    OUT live integer, OUT of_queue integer, OUT of_groups integer[], OUT first_queued timestamptz
) LANGUAGE plpgsql VOLATILE AS
$$
-- What may be released: by the queue, and by each group of `groups`; see release_due. live: slots. first_queued: when
-- the first of those was queued that are not done.
#variable_conflict use_column
DECLARE
    active integer; active_bulk integer; active_by_model jsonb;
BEGIN
    SELECT coalesce(sum(w.slots), 0) INTO live FROM assayline.workers w
     WHERE at_provider = ANY(w.providers) AND NOT w.stopping
       AND w.heartbeat_at > clock_timestamp() - make_interval(secs => dead_after_s);
    SELECT coalesce(sum(a.jobs), 0), coalesce(sum(a.bulk), 0), jsonb_object_agg(a.model, a.jobs), min(a.first_queued)
      INTO active, active_bulk, active_by_model, first_queued
      FROM (SELECT j.model, count(*) AS jobs, count(*) FILTER (WHERE j.lane = 'bulk') AS bulk,
                   min(j.queued_at) AS first_queued
              FROM assayline.jobs j
             WHERE j.provider = at_provider AND j.lane IN ('interactive', 'bulk') AND j.state IN ('queued', 'running')
               AND j.queued_at >= coalesce(active_since, '-infinity')
             GROUP BY j.model) a;
    of_queue := 0;
    IF live > 0 THEN
        of_queue := least(most, live + greatest(least_backlog, ceil(live * backlog_share)::integer) - active);
        IF in_lane = 'bulk' THEN
            of_queue := least(of_queue, greatest(1, floor(live * bulk_share)::integer) - active_bulk);
        END IF;
        of_queue := greatest(0, of_queue);
    END IF;
    SELECT array_agg(CASE WHEN g.most IS NULL AND g.more IS NULL THEN release_room.most
                          ELSE greatest(0, least(g.more, g.most - g.active)) END ORDER BY g.no) INTO of_groups
      FROM (SELECT g.*, (SELECT coalesce(sum(a.value::integer), 0) FROM jsonb_each_text(active_by_model) a
                          WHERE CASE WHEN g.models IS NOT NULL THEN a.key = ANY(g.models) ELSE NOT EXISTS (
                              SELECT FROM jsonb_to_recordset(groups) AS o(models text[]) WHERE a.key = ANY(o.models)) END)::integer AS active
              FROM ROWS FROM (jsonb_to_recordset(groups) AS (models text[], most integer, more integer))
                   WITH ORDINALITY AS g(models, most, more, no)) g;
END $$;

CREATE FUNCTION assayline.next_in_turn(
    at_provider text, in_lane text, groups jsonb, room integer[], at_tenant text[], had_taken integer[], weights jsonb,
    paused_tenants text[], paused_analyses text[], first assayline.due,
    held_at integer[], held_up text[], left_out text[], most_tried integer
) RETURNS TABLE (
    no integer, model text, tenant text, analysis text, priority smallint, job_id uuid, nth bigint, taken integer, rank bigint,
    "full" boolean, cut boolean, last text, last_weight integer
) LANGUAGE plpgsql STABLE ROWS 1000 AS
$$
-- Who is next: of each group the jobs that fill its `room`, in their order, and one more of each tenant to tell whether
-- it has any; see release_due. `first`: nothing that waits comes before it. `held_up`, at the group of `held_at`: only
-- these tenants, and up to `most_tried` jobs. left_out: "group:tenant", not these.
--
-- nth: of its tenant. taken: how many its tenant will have had in its turn. rank: in its group. full: this tenant has
-- more than were looked for. Of the group: cut: more tenants wait than were looked at; last, last_weight: of them.
-- A group without jobs is one row without a job_id. Stable: it sees what the statement around it sees, so that a job that
-- comes meanwhile is not taken for a row of `due` without a job.
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH RECURSIVE given AS MATERIALIZED (
        SELECT g.no::integer AS no, g.models, room[g.no] AS n, at_tenant[g.no] AS tenant, had_taken[g.no] AS taken,
               had_taken[g.no] < coalesce((weights ->> at_tenant[g.no])::integer, 1) AS owed,
               room[g.no] + 16 + cardinality(paused_tenants) + cardinality(left_out) AS tenants
          FROM ROWS FROM (jsonb_to_recordset(groups) AS (models text[])) WITH ORDINALITY AS g(models, no)
    ), waiting AS ( -- the models that wait, and what each begins with, one look into the index each
        (SELECT d.model, d.tenant, d.analysis, d.priority, d.job_id FROM assayline.due d
          WHERE d.provider = at_provider AND d.lane = in_lane
            AND (d.model, d.tenant, d.analysis, d.priority, d.job_id)
                >= (first.model, first.tenant, first.analysis, first.priority, first.job_id)
          ORDER BY d.model, d.tenant, d.analysis, d.priority, d.job_id LIMIT 1)
        UNION ALL
        SELECT n.* FROM waiting w
         CROSS JOIN LATERAL (
            SELECT d.model, d.tenant, d.analysis, d.priority, d.job_id FROM assayline.due d
             WHERE d.provider = at_provider AND d.lane = in_lane AND d.model > w.model
             ORDER BY d.model, d.tenant, d.analysis, d.priority, d.job_id LIMIT 1
         ) n
    ), grouped AS MATERIALIZED (
        SELECT coalesce(g.no, rest.no) AS no, w.*
          FROM waiting w LEFT JOIN given g ON w.model = ANY(g.models) LEFT JOIN given rest ON rest.models IS NULL
    ), walk AS ( -- the tenants from the one whose turn it is, round to it again, and what each begins with
        SELECT m.no, m.model, g.tenant, NULL::text AS analysis, NULL::smallint AS priority, NULL::uuid AS job_id,
               0 AS lap, 0 AS seen
          FROM grouped m JOIN given g USING (no)
        UNION ALL
        SELECT w.no, w.model, n.*, w.seen + 1
          FROM walk w JOIN given g USING (no) JOIN grouped m USING (no, model)
          LEFT JOIN LATERAL (
            SELECT d.tenant, d.analysis, d.priority, d.job_id FROM assayline.due d
             WHERE w.seen = 0 AND g.owed AND w.tenant > m.tenant AND d.provider = at_provider AND d.lane = in_lane
               AND d.model = w.model AND d.tenant = w.tenant
             ORDER BY d.analysis, d.priority, d.job_id LIMIT 1
          ) own ON true
          LEFT JOIN LATERAL (
            SELECT d.tenant, d.analysis, d.priority, d.job_id FROM assayline.due d
             WHERE own.job_id IS NULL AND w.tenant >= m.tenant AND d.provider = at_provider AND d.lane = in_lane
               AND d.model = w.model AND d.tenant > w.tenant
             ORDER BY d.tenant, d.analysis, d.priority, d.job_id LIMIT 1
          ) later ON NOT (w.seen = 0 AND g.owed AND w.tenant = m.tenant)
         CROSS JOIN LATERAL ( -- the first that there is
            SELECT own.tenant, own.analysis, own.priority, own.job_id, 0 AS lap WHERE own.job_id IS NOT NULL
            UNION ALL
            SELECT later.tenant, later.analysis, later.priority, later.job_id, w.lap
             WHERE own.job_id IS NULL AND later.job_id IS NOT NULL
            UNION ALL
            SELECT m.tenant, m.analysis, m.priority, m.job_id,
                   (w.seen > 0 OR w.tenant > m.tenant OR w.tenant = m.tenant AND NOT g.owed)::integer
             WHERE own.job_id IS NULL AND later.job_id IS NULL AND w.lap = 0
         ) n
         WHERE w.seen < g.tenants AND (n.lap = 0 OR n.tenant < g.tenant OR n.tenant = g.tenant AND NOT g.owed)
    ), served AS MATERIALIZED (
        SELECT h.no, h.tenant, h.place, coalesce((weights ->> h.tenant)::integer, 1) AS weight, 0 AS had
          FROM unnest(held_at, held_up) WITH ORDINALITY AS h(no, tenant, place)
        UNION ALL
        SELECT t.no, t.tenant, row_number() OVER (PARTITION BY t.no ORDER BY t.lap, t.tenant) AS place,
               coalesce((weights ->> t.tenant)::integer, 1) AS weight,
               CASE WHEN g.owed AND t.tenant = g.tenant THEN g.taken ELSE 0 END AS had
          FROM (SELECT w.no, w.tenant, min(w.lap) AS lap FROM walk w
                 WHERE w.seen > 0 AND w.tenant <> ALL(paused_tenants) AND concat(w.no, ':', w.tenant) <> ALL(left_out)
                   AND held_up = '{}' GROUP BY w.no, w.tenant) t
          JOIN given g USING (no)
    ), rounds AS MATERIALIZED ( -- in so many turns of each the room is full, if each has enough
        SELECT s.no, ceil(min(g.n)::float8 / sum(s.weight))::integer AS n FROM served s JOIN given g USING (no) GROUP BY s.no
    ), tried AS MATERIALIZED ( -- so many of each model and analysis
        SELECT s.*, greatest(r.n * s.weight, most_tried / nullif(cardinality(held_up), 0)) AS most
          FROM served s JOIN rounds r USING (no)
    ), heads AS (
        SELECT s.no, s.place, s.tenant, s.weight, s.had, m.model, a.analysis, h.priority, h.job_id, h.full,
               row_number() OVER (PARTITION BY s.no, s.tenant ORDER BY h.priority, h.job_id) AS nth
          FROM tried s JOIN grouped m USING (no)
          LEFT JOIN walk w ON w.no = s.no AND w.model = m.model AND w.tenant = s.tenant AND w.seen > 0
         CROSS JOIN LATERAL (
            WITH RECURSIVE analyses AS (
                (SELECT w.analysis, w.priority, w.job_id WHERE w.job_id IS NOT NULL
                 UNION ALL
                (SELECT d.analysis, d.priority, d.job_id FROM assayline.due d
                  WHERE w.job_id IS NULL AND d.provider = at_provider AND d.lane = in_lane AND d.model = m.model
                    AND d.tenant = s.tenant
                  ORDER BY d.analysis, d.priority, d.job_id LIMIT 1))
                UNION ALL
                SELECT n.* FROM analyses a
                 CROSS JOIN LATERAL (
                    SELECT d.analysis, d.priority, d.job_id FROM assayline.due d
                     WHERE d.provider = at_provider AND d.lane = in_lane AND d.model = m.model AND d.tenant = s.tenant
                       AND d.analysis > a.analysis
                     ORDER BY d.analysis, d.priority, d.job_id LIMIT 1
                 ) n
            ) SELECT a.* FROM analyses a WHERE a.analysis <> ALL(paused_analyses)
         ) a
         CROSS JOIN LATERAL (
            SELECT d.job_id, d.priority,
                   row_number() OVER (ORDER BY d.priority, d.job_id) > s.most AND held_up = '{}' AS full
              FROM assayline.due d
             WHERE d.provider = at_provider AND d.lane = in_lane AND d.model = m.model AND d.tenant = s.tenant
               AND d.analysis = a.analysis AND (d.priority, d.job_id) >= (a.priority, a.job_id)
             ORDER BY d.priority, d.job_id LIMIT s.most + 1 -- one more: whether anything is left behind
         ) h
    ), ranked AS MATERIALIZED (
        SELECT h.*, row_number() OVER (PARTITION BY h.no ORDER BY (h.nth - 1 + h.had) / h.weight, h.place, h.nth) AS rank
          FROM heads h
    ), looked AS MATERIALIZED (
        SELECT g.no, EXISTS (SELECT FROM walk w WHERE w.no = g.no AND w.seen >= g.tenants) AS cut, l.tenant, l.weight
          FROM given g
          LEFT JOIN LATERAL (SELECT s.* FROM served s WHERE s.no = g.no ORDER BY s.place DESC LIMIT 1) l ON true
    )
    SELECT l.no, r.model, r.tenant, r.analysis, r.priority, r.job_id, r.nth,
           ((r.nth - 1 + r.had) % r.weight + 1)::integer, r.rank, r.full, l.cut, l.tenant, l.weight
      FROM looked l LEFT JOIN ranked r USING (no);
END $$;

CREATE OR REPLACE FUNCTION assayline.release_due(
    at_provider text, in_lane text, groups jsonb, weights jsonb, active_since timestamptz, most integer,
    backlog_share float8, least_backlog integer, bulk_share float8, dead_after_s float8
) RETURNS TABLE (
    id uuid, release integer, state text, slots integer, room integer, spare integer[], short boolean, closed integer[],
    turns jsonb, oldest timestamptz
) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS
$$
-- Releases due jobs of one queue, as many as there is room for; a job that is no longer wanted expires instead. A
-- function, for it is what a job waits for: one round trip, its plans kept. No row comes back where another dispatcher
-- holds the provider's lock, or where a pause begins. The locks go with the transaction; each statement below sees what
-- was committed before it began, so the counts are exact.
--
-- Room of the queue: what is queued or running may not exceed the provider's live slots and a short backlog, so that a
-- worker finds its next message without a dispatcher's pass between; bulk keeps to its share of the slots. Counted is
-- what was queued since `active_since` (NULL: ever): a transaction that stays open keeps the dead entries of all that
-- has ended since, and a count would read them each time. `oldest` is when the first of those counted was queued.
-- Room of a limit group: what is queued or running of its models may not exceed `most`, and no more than `more` of them
-- are released. `groups` is an array of {models, most, more, tenant, taken}; one of them has no models: it holds those
-- that no other names. NULL bounds nothing.
--
-- Whose turn: within a group one tenant after another, each as many jobs as its weight (1 where `weights` names none):
-- deficit round robin with jobs of equal cost (Shreedhar and Varghese, 1995). `tenant` and `taken` say who was served
-- last and how many it had in that turn; `turns` returns the same for the next time. A tenant's own jobs go by priority
-- and birth, over all its analyses. Where the queue has less room than the groups, they share it evenly.
--
-- At least one row: what was left behind is told even where nothing moved. slots: live. room: of the queue, before.
-- spare: what each group, by its place in the array, still has room for. short: jobs were left behind for want of slots.
-- closed: the groups that had no room for more.
--
-- What somebody's open transaction has locked is passed by, and hides nothing: a tenant whose share was locked has it
-- looked for behind that, in a pass of its own, among up to `most_tried` jobs; one that has no others is left out. A row
-- whose job is no more (its month was dropped or detached) is deleted where it is met.
#variable_conflict use_column
DECLARE
    paused_tenants text[]; paused_analyses text[]; is_paused boolean;
    live integer; first_queued timestamptz;
    queue_room integer; queue_left integer; own_room integer[]; left_over integer[]; waits boolean[];
    at_tenant text[]; had_taken integer[]; passes integer := 0; goes_on boolean := false;
    most_tried CONSTANT integer := 20000; held_at integer[] := '{}'; held_up text[] := '{}'; left_out text[] := '{}';
    few_are CONSTANT integer := 8; heads assayline.due[]; few uuid[]; their_models text[];
    ids uuid[] := '{}'; releases integer[] := '{}'; states text[] := '{}'; step record; stray record;
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(hashtextextended('assayline.pauses', 0))
       OR NOT pg_try_advisory_xact_lock(hashtextextended('assayline.release.' || at_provider, 0)) THEN
        RETURN;
    END IF;
    SELECT coalesce(array_agg(p.name) FILTER (WHERE p.kind = 'tenant'), '{}'),
           coalesce(array_agg(p.name) FILTER (WHERE p.kind = 'analysis'), '{}'),
           coalesce(bool_or(p.kind = 'provider' AND p.name = at_provider
                            OR p.kind = 'queue' AND p.name = at_provider || '.' || in_lane), false)
      INTO paused_tenants, paused_analyses, is_paused FROM assayline.pauses p;
    SELECT r.live, CASE WHEN is_paused THEN 0 ELSE r.of_queue END, r.of_groups, r.first_queued
      INTO live, queue_room, own_room, first_queued
      FROM assayline.release_room(at_provider, in_lane, groups, active_since, most, backlog_share, least_backlog, bulk_share,
                                  dead_after_s) r;
    SELECT array_agg(coalesce(g.tenant, '') ORDER BY g.no), array_agg(coalesce(g.taken, 0) ORDER BY g.no)
      INTO at_tenant, had_taken
      FROM ROWS FROM (jsonb_to_recordset(groups) AS (tenant text, taken integer)) WITH ORDINALITY AS g(tenant, taken, no);
    queue_left := queue_room; left_over := own_room;

    -- A few, and room for them all, or none: it is nobody's turn. So it is most of the time, and what a person waits for.
    -- Else it is the only look that reads what is dead in front.
    IF NOT is_paused THEN
        SELECT array_agg(d.head) INTO heads
          FROM (SELECT d AS head FROM assayline.due d WHERE d.provider = at_provider AND d.lane = in_lane
                 ORDER BY d.model, d.tenant, d.analysis, d.priority, d.job_id LIMIT few_are + 1) d;
        few := ARRAY(SELECT h.job_id FROM unnest(heads) h ORDER BY h.priority, h.job_id);
        goes_on := few <> '{}' AND (paused_tenants <> '{}' OR paused_analyses <> '{}'
                                    OR cardinality(few) > least(few_are, queue_room, (SELECT min(n) FROM unnest(own_room) AS n)));
        IF NOT goes_on AND few <> '{}' THEN
            SELECT array_agg(m.id ORDER BY array_position(few, m.id)), array_agg(m.release ORDER BY array_position(few, m.id)),
                   array_agg(m.state ORDER BY array_position(few, m.id)), array_agg(m.model)
              INTO ids, releases, states, their_models
              FROM assayline.move_released(few, ARRAY[cardinality(few)], ARRAY[cardinality(few)]) m;
            SELECT array_agg(own_room[g.no] - (
                       SELECT count(*) FROM unnest(their_models) AS m(model)
                        WHERE CASE WHEN g.models IS NOT NULL THEN m.model = ANY(g.models) ELSE NOT EXISTS (
                            SELECT FROM jsonb_to_recordset(groups) AS o(models text[]) WHERE m.model = ANY(o.models)) END)::integer
                   ORDER BY g.no) INTO left_over
              FROM ROWS FROM (jsonb_to_recordset(groups) AS (models text[])) WITH ORDINALITY AS g(models, no);
        END IF;
    END IF;
    -- Once is enough, but where locks or pauses had fewer found than there is room for, or one tenant has more than its
    -- share of the room and the others less than theirs.
    WHILE goes_on AND passes < 8 LOOP
        passes := passes + 1;
        WITH looked AS MATERIALIZED (
            SELECT * FROM assayline.next_in_turn(
                at_provider, in_lane, groups, ARRAY(SELECT least(o.n, queue_left) FROM unnest(left_over) WITH ORDINALITY AS o(n, no)
                                                     ORDER BY o.no),
                at_tenant, had_taken, weights, paused_tenants, paused_analyses, heads[1], held_at, held_up, left_out, most_tried)
        ), ranked AS MATERIALIZED (
            SELECT l.* FROM looked l WHERE l.job_id IS NOT NULL
        ), chosen AS MATERIALIZED (
            SELECT f.* FROM (
                SELECT r.*, row_number() OVER (ORDER BY r.rank, random()) AS at FROM ranked r WHERE r.rank <= left_over[r.no]) f
             WHERE f.at <= queue_left
        ), shares AS MATERIALIZED ( -- of each tenant: how many may go, of how many that are tried in its order
            SELECT r.no, r.tenant, count(c.job_id)::integer AS n, count(*)::integer AS tried, bool_or(r.full) AS full,
                   sum(CASE WHEN count(c.job_id) > 0 THEN count(*) ELSE 0 END) OVER (ORDER BY r.no, r.tenant)::integer AS until
              FROM ranked r LEFT JOIN chosen c ON c.job_id = r.job_id GROUP BY r.no, r.tenant
        ), moved AS MATERIALIZED (
            SELECT m.* FROM assayline.move_released(
                ARRAY(SELECT r.job_id FROM ranked r JOIN shares s USING (no, tenant)
                       WHERE s.n > 0 ORDER BY r.no, r.tenant, r.nth),
                ARRAY(SELECT s.until FROM shares s WHERE s.n > 0 ORDER BY s.no, s.tenant),
                ARRAY(SELECT s.n FROM shares s WHERE s.n > 0 ORDER BY s.no, s.tenant)) m
        ), went AS MATERIALIZED (
            SELECT r.no, r.tenant, r.nth, r.rank, m.id, m.release, m.state
              FROM moved m JOIN ranked r ON r.job_id = m.id
        ), had AS MATERIALIZED ( -- of each tenant: whether its share went, how far one had to look, and whether more wait
            SELECT s.*, coalesce(w.n, 0) = s.n AS whole,
                   CASE WHEN coalesce(w.n, 0) = s.n THEN coalesce(w.reached, 0) ELSE s.tried END AS reached,
                   s.full OR coalesce(w.n, 0) = s.n AND s.tried > coalesce(w.reached, 0) AS more
              FROM shares s FULL JOIN (
                SELECT w.no, w.tenant, count(*) AS n, max(w.nth) AS reached FROM went w GROUP BY w.no, w.tenant
                   ) w USING (no, tenant) -- full: never row by row
        ), passed_by AS MATERIALIZED (
            SELECT r.model, r.tenant, r.analysis, r.priority, r.job_id FROM had h JOIN ranked r USING (no, tenant)
             WHERE h.n > 0 AND r.nth <= h.reached AND NOT EXISTS (SELECT FROM went w WHERE w.id = r.job_id)
        ), told AS ( -- by group: how many went, and who was served last; where that was locked, who will be
            SELECT g.no, (SELECT count(*) FROM went w WHERE w.no = g.no)::integer AS n, count(c.job_id) > 0 AS served,
                   (array_agg(c.tenant ORDER BY c.rank DESC))[1] AS tenant, (array_agg(c.taken ORDER BY c.rank DESC))[1] AS taken
              FROM (SELECT DISTINCT l.no FROM looked l) g LEFT JOIN chosen c USING (no) GROUP BY g.no
        ), seen AS (
            SELECT g.no, g.cut, g.last, g.last_weight AS weight,
                   coalesce((SELECT bool_or(h.more) FROM had h WHERE h.no = g.no), false) AS more
              FROM (SELECT DISTINCT l.no, l.cut, l.last, l.last_weight FROM looked l) g
        )
        SELECT coalesce((SELECT sum(t.n) FROM told t), 0)::integer AS n,
               (SELECT array_agg(left_over[t.no] - t.n ORDER BY t.no) FROM told t) AS left_over,
               (SELECT array_agg(s.more OR s.cut ORDER BY s.no) FROM seen s) AS waits,
               -- Where all that was seen has gone, and not all was looked at, the turn is that of the next one.
               (SELECT array_agg(CASE WHEN s.cut AND NOT s.more THEN s.last WHEN t.served THEN t.tenant ELSE at_tenant[t.no] END
                                 ORDER BY t.no) FROM told t JOIN seen s USING (no)) AS tenants,
               (SELECT array_agg(CASE WHEN s.cut AND NOT s.more THEN s.weight WHEN t.served THEN t.taken ELSE had_taken[t.no] END
                                 ORDER BY t.no) FROM told t JOIN seen s USING (no)) AS taken,
               (SELECT array_agg(w.id ORDER BY w.rank, w.id) FROM went w) AS ids,
               (SELECT array_agg(w.release ORDER BY w.rank, w.id) FROM went w) AS releases,
               (SELECT array_agg(w.state ORDER BY w.rank, w.id) FROM went w) AS states,
               ARRAY(SELECT h.no FROM had h WHERE NOT h.whole AND h.full ORDER BY h.no, h.tenant) AS held_at,
               ARRAY(SELECT h.tenant FROM had h WHERE NOT h.whole AND h.full ORDER BY h.no, h.tenant) AS held_up,
               ARRAY(SELECT concat(h.no, ':', h.tenant) FROM had h WHERE NOT h.whole AND NOT h.full) AS left_out,
               (SELECT jsonb_agg(to_jsonb(p)) FROM passed_by p
                 WHERE (SELECT j.id FROM assayline.jobs j WHERE j.id = p.job_id) IS NULL) AS strays -- a probe each, no join
          INTO step;
        FOR stray IN SELECT s.* FROM jsonb_to_recordset(step.strays)
                AS s(model text, tenant text, analysis text, priority smallint, job_id uuid) LOOP
            DELETE FROM assayline.due d
             WHERE d.provider = at_provider AND d.lane = in_lane AND d.model = stray.model AND d.tenant = stray.tenant
               AND d.analysis = stray.analysis AND d.priority = stray.priority AND d.job_id = stray.job_id;
        END LOOP;
        ids := ids || step.ids; releases := releases || step.releases; states := states || step.states;
        queue_left := queue_left - step.n; left_over := step.left_over;
        IF held_up = '{}' THEN -- else it was their turn before
            waits := step.waits; at_tenant := step.tenants; had_taken := step.taken;
        END IF;
        held_at := step.held_at; held_up := step.held_up; left_out := left_out || step.left_out;
        goes_on := queue_left > 0 AND EXISTS (SELECT FROM unnest(left_over, waits) AS g(n, more) WHERE g.n > 0 AND g.more);
    END LOOP;
    RETURN QUERY
    SELECT m.id, m.release, m.state, live, queue_room,
           (SELECT array_agg(least(o.n, queue_room) - (o.n - o.after) ORDER BY o.no)
              FROM unnest(own_room, left_over) WITH ORDINALITY AS o(n, after, no)),
           live > 0 AND EXISTS (SELECT FROM unnest(own_room, left_over, waits) AS o(n, after, more)
                                 WHERE o.more AND (o.after > 0 OR o.n >= queue_room)),
           ARRAY(SELECT o.no::integer FROM unnest(own_room, left_over, waits) WITH ORDINALITY AS o(n, after, more, no)
                  WHERE o.more AND o.after <= 0 AND o.n < queue_room),
           (SELECT jsonb_agg(jsonb_build_object('tenant', t.tenant, 'taken', t.taken) ORDER BY t.no)
              FROM unnest(at_tenant, had_taken) WITH ORDINALITY AS t(tenant, taken, no)), first_queued
      FROM (SELECT) one LEFT JOIN unnest(ids, releases, states) WITH ORDINALITY AS m(id, release, state, no) ON true
     ORDER BY m.no;
END $$;
