"""The command line, the API process, and the stack on one machine."""
