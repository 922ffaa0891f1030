"""Soft Task-Aware Routing (STAR): a routed projection head and its losses for PyTorch."""

__version__ = "0.1.0"
