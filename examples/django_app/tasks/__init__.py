"""The project's OWN `tasks` package. Assayline's client is called `assayline_client` and minds nobody's names."""
