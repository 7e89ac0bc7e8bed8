"""Where the files of stores lie: in folders, or as objects in buckets."""
