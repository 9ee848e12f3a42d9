-- Moves due jobs of a limit group that makes no calls to another model: to the next one of their chain that is not out
-- too and whose window it is not known to overflow, where that is at the target and its group has room. Most urgent
-- first; nothing is called, no attempt is used.
-- A group, `:group` as each of those in `:out`, is {provider, models, others}: without models it is all but the others.
-- `:spare` is the room of the target's groups, {models, jobs}: without models it is that of all that no other names.
--
-- Of each model and priority `:looked` jobs are looked at, behind what was looked at before: `:behind`, an array of
-- {model, priority, not_before, id}. The reply has the same for the next look. It goes no further while a job that may
-- move has to wait for more of its group's room, and begins anew at the end.
WITH RECURSIVE outs AS MATERIALIZED (
    SELECT o.* FROM jsonb_to_recordset(CAST(:out AS jsonb)) AS o(provider text, models text[], others text[])
), here AS MATERIALIZED (
    SELECT g.* FROM jsonb_to_record(CAST(:group AS jsonb)) AS g(models text[], others text[])
), spare AS MATERIALIZED (
    SELECT s.no, s.models, s.jobs FROM ROWS FROM (jsonb_to_recordset(CAST(:spare AS jsonb)) AS (models text[], jobs integer))
           WITH ORDINALITY AS s(models, jobs, no)
), behind AS MATERIALIZED (
    SELECT b.* FROM jsonb_to_recordset(CAST(:behind AS jsonb))
                    AS b(model text, priority integer, not_before timestamptz, id uuid)
), waiting AS ( -- the models that wait, one look into the index each
    (SELECT model FROM assayline.jobs WHERE provider = :provider AND lane = :lane AND state = 'scheduled'
      ORDER BY model LIMIT 1)
    UNION ALL
    SELECT (SELECT j.model FROM assayline.jobs j
             WHERE j.provider = :provider AND j.lane = :lane AND j.state = 'scheduled' AND j.model > w.model
             ORDER BY j.model LIMIT 1)
      FROM waiting w WHERE w.model IS NOT NULL
), seen AS MATERIALIZED (
    SELECT w.model, p.priority, j.id, j.not_before, j.chain, j.next
      FROM here h JOIN waiting w ON CASE WHEN h.models IS NULL THEN NOT w.model = ANY(h.others)
                                         ELSE w.model = ANY(h.models) END
     CROSS JOIN generate_series(0, 9) AS p(priority) LEFT JOIN behind b USING (model, priority)
     CROSS JOIN LATERAL (
        SELECT j.id, j.not_before, j.chain, CASE WHEN j.use_fallback THEN (
                   SELECT min(n) FROM generate_subscripts(j.chain, 1) AS n
                    WHERE n > j.hop + 1
                      AND NOT j.causes @> jsonb_build_array(jsonb_build_object('too_small', jsonb_build_array(j.chain[n])))
                      AND NOT EXISTS (
                       SELECT FROM outs o
                        WHERE o.provider = split_part(j.chain[n], '/', 1)
                          AND CASE WHEN o.models IS NULL THEN NOT substr(j.chain[n], length(o.provider) + 2) = ANY(o.others)
                                   ELSE substr(j.chain[n], length(o.provider) + 2) = ANY(o.models) END)) END AS next
          FROM assayline.jobs j
         WHERE j.provider = :provider AND j.lane = :lane AND j.model = w.model AND j.state = 'scheduled'
           AND j.priority = p.priority AND j.not_before <= clock_timestamp()
           AND (j.not_before, j.id) > (coalesce(b.not_before, '-infinity'),
                                       coalesce(b.id, '00000000-0000-0000-0000-000000000000'))
         ORDER BY j.not_before, j.id LIMIT :looked
     ) j
), movable AS MATERIALIZED (
    SELECT s.id, s.next, s.priority, s.not_before, coalesce(g.jobs, rest.jobs, 0) AS room,
           row_number() OVER (PARTITION BY coalesce(g.no, rest.no) ORDER BY s.priority, s.not_before, s.id) AS place
      FROM seen s LEFT JOIN spare g ON substr(s.chain[s.next], length(CAST(:target AS text)) + 2) = ANY(g.models)
      LEFT JOIN spare rest ON rest.models IS NULL
     WHERE split_part(s.chain[s.next], '/', 1) = CAST(:target AS text)
), chosen AS MATERIALIZED (
    SELECT m.id, m.next FROM movable m WHERE m.place <= m.room ORDER BY m.priority, m.not_before, m.id LIMIT :most
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
), windows AS (
    SELECT s.model, s.priority, count(*) = :looked AS full,
           count(*) FILTER (WHERE m.room > 0 AND c.id IS NULL) = 0 AS done,
           (array_agg(s.not_before ORDER BY s.not_before DESC, s.id DESC))[1] AS not_before,
           (array_agg(s.id ORDER BY s.not_before DESC, s.id DESC))[1] AS id
      FROM seen s LEFT JOIN movable m USING (id) LEFT JOIN chosen c USING (id) GROUP BY s.model, s.priority
), goes_on AS (
    SELECT w.model, w.priority, w.not_before, w.id FROM windows w WHERE w.done AND w.full
    UNION ALL
    SELECT b.model, b.priority, b.not_before, b.id FROM behind b JOIN windows w USING (model, priority) WHERE NOT w.done
)
SELECT (SELECT count(*) FROM moved) AS jobs,
       (SELECT coalesce(jsonb_agg(to_jsonb(g)), '[]')::text FROM goes_on g) AS behind
