DROP FUNCTION public.assayline_cancel_jobs(jsonb, integer, uuid);
DROP FUNCTION assayline.oldest_cancellable(text[], integer);
DROP FUNCTION public.assayline_count_cancellable(jsonb);
DROP FUNCTION assayline.cancel_conditions(jsonb);
DROP FUNCTION assayline.cancel_filter(jsonb);
DROP FUNCTION assayline.cancel_states(jsonb);
DROP FUNCTION assayline.cancel_filters();

CREATE OR REPLACE FUNCTION public.assayline_cancel(id uuid, tenant text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE AS
$$
-- Cancels a job that has not ended, and returns the state it is in then; NULL where there is no such job (of this
-- tenant). A running call is not stopped by this: its cost is still recorded, its answer refused by the fence.
#variable_conflict use_variable
DECLARE
    stands text;
BEGIN
    UPDATE assayline.jobs j SET state = 'cancelled', reason = 'cancel_' || j.state, finished_at = clock_timestamp(),
           lease_until = NULL
     WHERE j.id = assayline_cancel.id AND (assayline_cancel.tenant IS NULL OR j.tenant = assayline_cancel.tenant)
       AND j.state IN ('scheduled', 'queued', 'running');
    SELECT j.state INTO stands FROM assayline.jobs j
     WHERE j.id = assayline_cancel.id AND (assayline_cancel.tenant IS NULL OR j.tenant = assayline_cancel.tenant);
    RETURN stands;
END $$;

DROP FUNCTION assayline.tell_cancelled(uuid[], uuid[], integer[]);
