-- Lets what is queued of a pause wait again; `held`: how many another transaction had locked just then.
SELECT moved, held FROM assayline.pause_queued(:kind, :name)
