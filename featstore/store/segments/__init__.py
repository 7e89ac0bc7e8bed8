"""Segments: sealed files of feature rows, their keys, maps and checksums."""
