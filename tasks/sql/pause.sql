-- Stops the release of some jobs until they are resumed; what is queued of them: pause_queued.sql.
SELECT assayline.pause(:kind, :name, :why)
