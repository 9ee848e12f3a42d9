"""What operators run: the command line, the embedded services, migrations and benches."""
