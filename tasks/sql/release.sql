-- Releases due jobs of one queue: see assayline.release_due, whose text stands with the migrations.
SELECT *, :provider AS provider, :lane AS lane
  FROM assayline.release_due(:provider, :lane, CAST(:groups AS jsonb), CAST(:weights AS jsonb),
                             CAST(:active_since AS timestamptz), :most, :backlog_share, :least_backlog, :bulk_share, :dead_after_s)
