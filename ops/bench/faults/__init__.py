"""What the bench `chaos` is made of: a plan of faults, hands that do them, records of what came of it, a judge."""
