"""From a version of a template and answers to a tree of files. Knows no service."""
