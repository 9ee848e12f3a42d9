"""What the bench `failover` is made of: endpoints that fail on demand, those who call them, and who judges it."""
