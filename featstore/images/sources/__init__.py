"""Image sources: one file for each kind of source; ``opening`` chooses among them."""
