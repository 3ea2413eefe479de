"""The template: what it renders and refuses, how plain Copier updates it, and that a render passes its own checks."""
