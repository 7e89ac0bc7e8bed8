"""The pipeline from sources to features: read, hash, decode, forward pass, store."""
