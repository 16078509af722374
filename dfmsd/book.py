"""Execute pages and build the book."""
