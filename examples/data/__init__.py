"""Images for the scripts: folders, caches, data sets with their splits, seeded loaders."""
