"""Scores, comparisons and learning curves of heads that give several labels."""
