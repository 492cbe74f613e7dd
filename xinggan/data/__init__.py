"""Poses, packed images, pairs and the data sets they come from."""
