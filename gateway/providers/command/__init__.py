"""A program on the worker's machine that answers: JSON on stdin, JSON on stdout."""
