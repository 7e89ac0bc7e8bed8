"""What several commands do alike, and what would be too long beside a command."""
