"""Files that hold many images: one file for each kind."""
