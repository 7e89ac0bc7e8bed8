"""Lists of images: CSV, JSON Lines, COCO, metadata files, split lists, and tables in memory."""
