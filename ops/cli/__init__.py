"""The command line `assayline`: each command a file, the root in `main`."""
