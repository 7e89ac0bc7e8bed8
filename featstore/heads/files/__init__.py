"""The head file: how heads are written, and read without trusting them."""
