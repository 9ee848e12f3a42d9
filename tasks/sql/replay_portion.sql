-- Makes the next new jobs of a replay that may go on now, and returns it as it stands then; no row where there is none.
SELECT * FROM assayline.replay_portion(CAST(:most AS integer))
