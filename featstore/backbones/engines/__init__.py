"""What runs a network other than Keras, and how it is chosen."""
