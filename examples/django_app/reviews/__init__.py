"""Reviews and their labels."""
