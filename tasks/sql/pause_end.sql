-- Lets a pause end; tells whether there was one.
SELECT assayline.resume(:kind, :name) AS ended
