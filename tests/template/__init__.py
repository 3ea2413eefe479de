"""The template: its renders and refusals, its updates by plain Copier, a render's own checks."""
