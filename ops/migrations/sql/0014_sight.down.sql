DROP TABLE assayline.sight;
