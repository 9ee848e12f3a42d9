-- Makes the partitions of the coming months.
SELECT assayline.ensure_partitions()
