"""Validation of estimators from untrusted files: the types that are read, with a check for each."""

from featstore.heads.files.estimators.building import build
from featstore.heads.files.estimators.decoding import decode, foreign_types, written_with
from featstore.heads.files.estimators.jobs import without_jobs

__all__ = ["build", "decode", "foreign_types", "without_jobs", "written_with"]
