"""The servers of `dev`: where they come from, who shares them, and that nothing stays behind."""
