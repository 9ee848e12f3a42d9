-- Moves due jobs of a limit group that makes no calls to another model: to the next one of their chain that is not out
-- too and whose window it is not known to overflow, where that is at the target and its group has room. One tenant after
-- another, most urgent first; nothing is called, no attempt is used. What is paused stays.
-- A group, `:group` as each of those in `:out`, is {provider, models, others}: without models it is all but the others.
-- `:spare` is the room of the target's groups, {models, jobs}: without models it is that of all that no other names.
--
-- A window is a tenant's jobs of one model and analysis. A look takes in a hundred windows of each model, from
-- `:behind`'s tenant on, and of each its share of `:looked` jobs, behind what was looked at before: `at`, an array of
-- {model, tenant, analysis, priority, id}. The reply has the same for the next look. It goes no further in a window while
-- a job that may move has to wait for more of its group's room, and begins anew at the end.
WITH RECURSIVE outs AS MATERIALIZED (
    SELECT o.* FROM jsonb_to_recordset(CAST(:out AS jsonb)) AS o(provider text, models text[], others text[])
), here AS MATERIALIZED (
    SELECT g.* FROM jsonb_to_record(CAST(:group AS jsonb)) AS g(models text[], others text[])
), spare AS MATERIALIZED (
    SELECT s.no, s.models, s.jobs FROM ROWS FROM (jsonb_to_recordset(CAST(:spare AS jsonb)) AS (models text[], jobs integer))
           WITH ORDINALITY AS s(models, jobs, no)
), starts AS MATERIALIZED (
    SELECT coalesce(CAST(:behind AS jsonb) ->> 'tenant', '') AS at
), behind AS MATERIALIZED (
    SELECT b.* FROM jsonb_to_recordset(CAST(:behind AS jsonb) -> 'at')
                    AS b(model text, tenant text, analysis text, priority smallint, id uuid)
), paused AS MATERIALIZED (
    SELECT p.kind, p.name FROM assayline.pauses p
), waiting AS ( -- the models that wait, one look into the index each
    (SELECT d.model FROM assayline.due d
      WHERE d.provider = :provider AND d.lane = :lane
        AND NOT EXISTS (SELECT FROM paused p WHERE p.kind = 'provider' AND p.name = :provider
                                                OR p.kind = 'queue' AND p.name = :provider || '.' || :lane)
      ORDER BY d.model LIMIT 1)
    UNION ALL
    SELECT (SELECT d.model FROM assayline.due d
             WHERE d.provider = :provider AND d.lane = :lane AND d.model > w.model ORDER BY d.model LIMIT 1)
      FROM waiting w WHERE w.model IS NOT NULL
), walk AS ( -- the windows, one look into the index each
    SELECT w.model, n.tenant, n.analysis, 1 AS seen
      FROM here h JOIN waiting w ON CASE WHEN h.models IS NULL THEN NOT w.model = ANY(h.others) ELSE w.model = ANY(h.models) END
     CROSS JOIN starts s CROSS JOIN LATERAL (
        SELECT d.tenant, d.analysis FROM assayline.due d
         WHERE d.provider = :provider AND d.lane = :lane AND d.model = w.model AND d.tenant >= s.at
         ORDER BY d.tenant, d.analysis LIMIT 1) n
    UNION ALL
    SELECT w.model, n.tenant, n.analysis, w.seen + 1
      FROM walk w CROSS JOIN LATERAL (
        SELECT d.tenant, d.analysis FROM assayline.due d
         WHERE d.provider = :provider AND d.lane = :lane AND d.model = w.model
           AND (d.tenant, d.analysis) > (w.tenant, w.analysis)
         ORDER BY d.tenant, d.analysis LIMIT 1) n
     WHERE w.seen < 100
), ends AS MATERIALIZED ( -- the tenant at whom the next look begins, NULL: at the first
    SELECT min(w.tenant) AS at FROM walk w WHERE w.seen = 100
), windows AS MATERIALIZED (
    SELECT w.model, w.tenant, w.analysis, greatest(5, CAST(:looked AS integer) / count(*) OVER ()) AS looked,
           b.priority, b.id
      FROM walk w CROSS JOIN ends e LEFT JOIN behind b USING (model, tenant, analysis)
     WHERE (e.at IS NULL OR w.tenant <= e.at)
       AND NOT EXISTS (SELECT FROM paused p WHERE p.kind = 'tenant' AND p.name = w.tenant
                                               OR p.kind = 'analysis' AND p.name = w.analysis)
), seen AS MATERIALIZED (
    SELECT w.model, w.tenant, w.analysis, w.looked, d.priority, d.job_id AS id, j.chain, j.next
      FROM windows w
     CROSS JOIN LATERAL (
        SELECT d.priority, d.job_id FROM assayline.due d
         WHERE d.provider = :provider AND d.lane = :lane AND d.model = w.model AND d.tenant = w.tenant
           AND d.analysis = w.analysis
           AND (d.priority, d.job_id) > (coalesce(w.priority, -1), coalesce(w.id, '00000000-0000-0000-0000-000000000000'))
         ORDER BY d.priority, d.job_id LIMIT w.looked
     ) d
      LEFT JOIN LATERAL (
        SELECT j.chain, CASE WHEN j.use_fallback THEN (
                   SELECT min(n) FROM generate_subscripts(j.chain, 1) AS n
                    WHERE n > j.hop + 1
                      AND NOT j.causes @> jsonb_build_array(jsonb_build_object('too_small', jsonb_build_array(j.chain[n])))
                      AND NOT EXISTS (
                       SELECT FROM outs o
                        WHERE o.provider = split_part(j.chain[n], '/', 1)
                          AND CASE WHEN o.models IS NULL THEN NOT substr(j.chain[n], length(o.provider) + 2) = ANY(o.others)
                                   ELSE substr(j.chain[n], length(o.provider) + 2) = ANY(o.models) END)) END AS next
          FROM assayline.jobs j WHERE j.id = d.job_id AND j.state IS NOT DISTINCT FROM 'scheduled'
     ) j ON true
), movable AS MATERIALIZED (
    SELECT m.*, row_number() OVER (PARTITION BY m.no ORDER BY m.nth, m.tenant, m.priority, m.id) AS place
      FROM (SELECT s.id, s.next, s.tenant, s.priority, coalesce(g.no, rest.no) AS no, coalesce(g.jobs, rest.jobs, 0) AS room,
                   row_number() OVER (PARTITION BY coalesce(g.no, rest.no), s.tenant ORDER BY s.priority, s.id) AS nth
              FROM seen s LEFT JOIN spare g ON substr(s.chain[s.next], length(CAST(:target AS text)) + 2) = ANY(g.models)
              LEFT JOIN spare rest ON rest.models IS NULL
             WHERE split_part(s.chain[s.next], '/', 1) = CAST(:target AS text)) m
), chosen AS MATERIALIZED (
    SELECT m.id, m.next FROM movable m WHERE m.place <= m.room ORDER BY m.nth, m.tenant, m.priority, m.id LIMIT :most
), held AS (
    SELECT j.id, c.next FROM assayline.jobs j JOIN chosen c USING (id)
     WHERE j.id = ANY (ARRAY(SELECT id FROM chosen)) AND j.state = 'scheduled' AND j.provider = :provider
       FOR UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE assayline.jobs j
       SET state = 'scheduled', reason = 'divert', hop = h.next - 1, provider = split_part(j.chain[h.next], '/', 1),
           model = substr(j.chain[h.next], length(split_part(j.chain[h.next], '/', 1)) + 2),
           causes = causes || jsonb_build_array(jsonb_build_object(
               'at', clock_timestamp(), 'claim_no', j.claim_no, 'provider', j.provider, 'model', j.model,
               'move', CAST(:move AS text), 'error', CAST(:error AS text), 'message', CAST(:message AS text), 'retry_after_s', NULL))
      FROM held h WHERE j.id = h.id AND j.id = ANY (ARRAY(SELECT id FROM held))
    RETURNING j.id
), looks AS ( -- by window
    SELECT s.model, s.tenant, s.analysis, count(*) = min(s.looked) AS full,
           count(*) FILTER (WHERE m.room > 0 AND c.id IS NULL) = 0 AS done,
           (array_agg(s.priority ORDER BY s.priority DESC, s.id DESC))[1] AS priority,
           (array_agg(s.id ORDER BY s.priority DESC, s.id DESC))[1] AS id
      FROM seen s LEFT JOIN movable m USING (id) LEFT JOIN chosen c USING (id) GROUP BY s.model, s.tenant, s.analysis
), goes_on AS (
    SELECT l.model, l.tenant, l.analysis, l.priority, l.id FROM looks l WHERE l.done AND l.full
    UNION ALL
    SELECT b.model, b.tenant, b.analysis, b.priority, b.id FROM behind b JOIN looks l USING (model, tenant, analysis)
     WHERE NOT l.done
    UNION ALL -- not looked at this time
    SELECT b.model, b.tenant, b.analysis, b.priority, b.id FROM behind b CROSS JOIN starts s CROSS JOIN ends e
     WHERE b.tenant < s.at OR b.tenant > e.at
)
SELECT (SELECT count(*) FROM moved) AS jobs,
       (SELECT jsonb_build_object('tenant', e.at,
                                  'at', (SELECT coalesce(jsonb_agg(to_jsonb(g)), '[]') FROM goes_on g))::text
          FROM ends e) AS behind
