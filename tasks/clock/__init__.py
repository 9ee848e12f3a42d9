"""What the clock calls for: batches that run by night, once each. Local time and Postgres decide, never beat."""
