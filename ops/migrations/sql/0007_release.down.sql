DROP FUNCTION assayline.release_due(text, text, jsonb, integer, float8, integer, float8, float8);
