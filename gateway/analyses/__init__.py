"""Analysis types: one entry each, with its result model, prompt, budget and sensitivity."""
