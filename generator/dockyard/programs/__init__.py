"""What runs outside of Python: git, the network, the toolchain, folders. Knows no template and no service."""
