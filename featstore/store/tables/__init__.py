"""Feature tables: catalogs joined with the rows of spaces."""
