"""Solvers: fitting a classifier for many settings at a time."""
