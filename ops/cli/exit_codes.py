"""What the exit code of a command means."""

OK = 0
FAILED = 1
"""A job ended otherwise than well, or had not ended in time; a bench missed its goal; others held what was needed."""
CONFIGURATION = 2
"""The installation: a variable, the catalog, a server that does not answer, a schema that is not there."""
BAD_INPUT = 3
"""What was asked for cannot be: a wrong option, file or id."""
FAULT = 70
"""A fault of Assayline's own (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED = 130
"""Ctrl-C, as shells count it: 128 + SIGINT."""
