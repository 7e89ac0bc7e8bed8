"""Images on the move: read, hash, decode, forward pass, features at rest."""
