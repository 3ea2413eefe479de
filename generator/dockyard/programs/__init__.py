"""What runs outside of Python: git, the network, uv and make, folders. Knows no template."""
