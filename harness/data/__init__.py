"""Images: read, brought to one size, split into disjoint parts."""
