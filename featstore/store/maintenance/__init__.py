"""Keeping a store sound and small: verify, repair, merge, compact."""
