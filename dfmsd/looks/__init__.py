"""Looks at data, at what augmentations do to images, and into networks and methods."""
