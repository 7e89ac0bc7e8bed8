"""Scores of heads that predict a number: on a split, in folds, compared, and as a plot."""
