"""The report: one page that opens offline, and a table for the terminal."""
