"""The images that heads are fitted, chosen and tested on."""
