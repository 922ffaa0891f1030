"""The one-file page on what heads learned."""
