-- How many jobs were found, by why they are left out (NULL: meant), and which replays under way have some of them.
SELECT c.left_out, count(*) AS jobs,
       ARRAY(SELECT r.id FROM assayline.replays r
              WHERE r.state IN ('running', 'paused')
                AND r.id IN (SELECT h.held_by FROM pg_temp.assayline_candidates h WHERE h.left_out = c.left_out)
              ORDER BY r.id LIMIT 10) AS under_way
  FROM pg_temp.assayline_candidates c GROUP BY c.left_out
