"""Any REST endpoint that takes a question as JSON and answers with JSON, as its catalog entry describes it."""
