"""The dashboard that the template ships, and the program that writes it."""
