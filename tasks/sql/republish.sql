-- Jobs whose message nobody claimed in time (lost, or stuck behind long calls): a new number each, so that the old
-- message is refused, and a new copy. The wait doubles with each copy, up to eight times the first: the newest message
-- may be lost, too.
UPDATE assayline.jobs
   SET release = release + 1, copies = copies + 1, queued_at = clock_timestamp(), reason = 'republish'
 WHERE (id, state) IN (
    SELECT id, 'queued' FROM assayline.jobs
     WHERE state = 'queued'
       AND queued_at < clock_timestamp() - make_interval(secs => :republish_after_s * 2 ^ least(copies - 1, 3))
       AND (least(expires_at, deadline_at) <= clock_timestamp()) IS NOT TRUE
     ORDER BY queued_at LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING id, release, provider, lane, state
