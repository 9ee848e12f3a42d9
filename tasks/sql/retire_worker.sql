-- Takes a stopped incarnation off the list; whatever it should still run is rescued at once.
DELETE FROM assayline.workers WHERE incarnation = :incarnation
