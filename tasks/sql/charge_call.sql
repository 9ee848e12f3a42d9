-- Writes down that another account makes the call than it was opened for, or that it is of another kind. False: the
-- fence refused it.
WITH owned AS (
    SELECT EXISTS (SELECT FROM assayline.jobs
                    WHERE id = :id AND claim_no = :claim_no AND state IS NOT DISTINCT FROM 'running') AS yes
), charged AS (
    UPDATE assayline.calls SET account = :account, kind = coalesce(CAST(:kind AS text), kind)
     WHERE job_id = :id AND claim_no = :claim_no AND call_no = :call_no AND (SELECT yes FROM owned)
)
SELECT yes FROM owned
