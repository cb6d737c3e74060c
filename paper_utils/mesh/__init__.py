"""Meshes of faces: morphable models and their files, skinning, rendering."""
