"""Estimators of files that may come from anyone: which types are read, and how each is checked."""

from featstore.heads.files.estimators.building import build
from featstore.heads.files.estimators.decoding import decode, foreign_types, written_with
from featstore.heads.files.estimators.jobs import without_jobs

__all__ = ["build", "decode", "foreign_types", "without_jobs", "written_with"]
