"""The command line: one file per command in `commands/`; what they share stands beside it, one subject per file."""
