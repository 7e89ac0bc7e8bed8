"""The command line of featstore: each command is a thin skin over the library's public names."""
