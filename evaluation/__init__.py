"""Encoders and trained heads measured: features, accuracies, and a page on a head."""
