"""Data: read images at one size and split them into disjoint parts."""
