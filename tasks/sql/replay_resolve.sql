-- The chain that a new job of this analysis would have with these options, judged as when it is enqueued.
SELECT (assayline.resolve_shape('', :analysis, CAST(:options AS jsonb), '{}')).chain
