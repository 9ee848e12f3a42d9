CREATE OR REPLACE FUNCTION public.assayline_get(id uuid, tenant text DEFAULT NULL) RETURNS jsonb LANGUAGE sql STABLE
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
DROP FUNCTION assayline.replay_line(uuid, uuid, uuid);
DROP FUNCTION assayline.replay_portion(integer);
DROP FUNCTION assayline.replay_options(assayline.jobs, jsonb);
DROP TABLE assayline.replay_jobs;
DROP TABLE assayline.replays;
ALTER TABLE assayline.jobs DROP COLUMN replay_of, DROP COLUMN replay_id;
