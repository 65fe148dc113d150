"""The command line: one file a command. Importing it imports neither torch nor anything slow."""
