"""Cohere's chat API as a dialect of Assayline's gateway."""
