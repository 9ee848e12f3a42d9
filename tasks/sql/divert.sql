-- Moves due jobs of a limit group that makes no calls to another model: to the next one of their chain that is not out
-- too and whose window it is not known to overflow, where that is at the target. Most urgent first; nothing is called, no attempt is used. Of each model and priority
-- `:looked` jobs are looked at: what is not found behind those waits for the next pass, or for the group.
-- A group, `:group` as each of those in `:out`, is {provider, models, others}: without models it is all but the others.
WITH RECURSIVE outs AS MATERIALIZED (
    SELECT o.* FROM jsonb_to_recordset(CAST(:out AS jsonb)) AS o(provider text, models text[], others text[])
), here AS MATERIALIZED (
    SELECT g.* FROM jsonb_to_record(CAST(:group AS jsonb)) AS g(models text[], others text[])
), waiting AS ( -- the models that wait, one look into the index each
    (SELECT model FROM assayline.jobs WHERE provider = :provider AND lane = :lane AND state = 'scheduled'
      ORDER BY model LIMIT 1)
    UNION ALL
    SELECT (SELECT j.model FROM assayline.jobs j
             WHERE j.provider = :provider AND j.lane = :lane AND j.state = 'scheduled' AND j.model > w.model
             ORDER BY j.model LIMIT 1)
      FROM waiting w WHERE w.model IS NOT NULL
), movable AS (
    SELECT d.id, d.next
      FROM here h JOIN waiting w ON CASE WHEN h.models IS NULL THEN NOT w.model = ANY(h.others)
                                         ELSE w.model = ANY(h.models) END
     CROSS JOIN generate_series(0, 9) AS p(priority)
     CROSS JOIN LATERAL (
        SELECT j.id, j.priority, j.not_before, j.chain, j.use_fallback,
               (SELECT min(n) FROM generate_subscripts(j.chain, 1) AS n
                 WHERE n > j.hop + 1
                   AND NOT j.causes @> jsonb_build_array(jsonb_build_object('too_small', jsonb_build_array(j.chain[n])))
                   AND NOT EXISTS (
                    SELECT FROM outs o
                     WHERE o.provider = split_part(j.chain[n], '/', 1)
                       AND CASE WHEN o.models IS NULL THEN NOT substr(j.chain[n], length(o.provider) + 2) = ANY(o.others)
                                ELSE substr(j.chain[n], length(o.provider) + 2) = ANY(o.models) END)) AS next
          FROM assayline.jobs j
         WHERE j.provider = :provider AND j.lane = :lane AND j.model = w.model AND j.state = 'scheduled'
           AND j.priority = p.priority AND j.not_before <= clock_timestamp()
         ORDER BY j.not_before, j.id LIMIT :looked
     ) d
     WHERE d.use_fallback AND split_part(d.chain[d.next], '/', 1) = CAST(:target AS text)
     ORDER BY d.priority, d.not_before, d.id LIMIT :most
), held AS (
    SELECT j.id, m.next FROM assayline.jobs j JOIN movable m USING (id)
     WHERE j.id = ANY (ARRAY(SELECT id FROM movable)) AND j.state = 'scheduled' AND j.provider = :provider
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
)
SELECT count(*) AS jobs FROM moved
