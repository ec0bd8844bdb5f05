"""The first task of a new robot, written as text."""
