-- Releases due jobs of one queue: see assayline.release_due, whose text stands with the migrations.
SELECT * FROM assayline.release_due(:provider, :lane, CAST(:groups AS jsonb), :most, :backlog_share, :least_backlog,
                                    :bulk_share, :dead_after_s)
