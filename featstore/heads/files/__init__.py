"""The head file format, read without trusting its content."""
