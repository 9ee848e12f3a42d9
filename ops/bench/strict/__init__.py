"""A provider that is stricter than any: its endpoint, the loads it is put under, and who puts it under them."""
