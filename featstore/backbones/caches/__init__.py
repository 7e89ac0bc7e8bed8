"""What is remembered of networks between runs."""
